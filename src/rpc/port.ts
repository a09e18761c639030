import { randomUUID } from "node:crypto";
import { createServer as createHttp1Server, type Server as Http1Server, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import type { NodeRequest, NodeResponse } from "./call.ts";
import { CONNECTION_LIMITS, HTTP1_LIMITS, HTTP2_LIMITS } from "./limits.ts";

export interface PortOptions {
	readonly host: string;
	readonly port: number;
	/** `http2` alone, or `any`: HTTP/1.1 and cleartext HTTP/2 on the same port. */
	readonly protocol: "http2" | "any";
	readonly handle: (request: NodeRequest, response: NodeResponse) => void;
}

export interface OpenPort {
	readonly url: string;
	/** How many are open at the moment. */
	connections(): number;
	/**
	 * Stops accepting, tells HTTP/2 peers to go elsewhere (GOAWAY), lets the calls in flight finish and cuts off what has
	 * not finished after `drainMs`.
	 */
	close(drainMs: number): Promise<void>;
}

/** Listens. @throws Error with `code` EADDRINUSE and `port` if the port is taken */
export async function openPort({ host, port, protocol, handle }: PortOptions): Promise<OpenPort> {
	const peers: Peers = { sockets: new Set(), undecided: new Set(), answers: new Set(), sessions: new Set() };
	const http2 = createHttp2Server(HTTP2_LIMITS, handle);
	http2.on("session", (session) => trackSession(session, peers));
	const server = protocol === "any" ? createHttp1(handle, http2, peers) : http2;
	server.on("connection", (socket: Socket) => remember(socket, peers.sockets));
	server.maxConnections = CONNECTION_LIMITS.connections;
	const address = await startListening(server, host, port);
	return {
		url: urlOf(host, address),
		connections: () => peers.sockets.size,
		close: (drainMs) => drain(server, peers, drainMs),
	};
}

/** Who is connected, as far as closing must know. */
interface Peers {
	readonly sockets: Set<Socket>;
	/** Connections that have not yet said which protocol they speak. */
	readonly undecided: Set<Socket>;
	/** HTTP/1.1 responses not yet finished. */
	readonly answers: Set<ServerResponse>;
	readonly sessions: Set<ServerHttp2Session>;
}

/** An HTTP/1.1 server that hands connections which begin like HTTP/2 on to an HTTP/2 server. */
function createHttp1(handle: PortOptions["handle"], http2: Http2Server, peers: Peers): Http1Server {
	const http1 = createHttp1Server(HTTP1_LIMITS, (request, response) => {
		remember(response, peers.answers);
		if (!http1.listening) endConnectionAfter(response);
		handle(request, response);
	});
	const [acceptHttp1] = http1.listeners("connection");
	http1.removeAllListeners("connection");
	http1.on("connection", (socket: Socket) => {
		remember(socket, peers.undecided);
		detectHttp2(socket, (isHttp2) => {
			peers.undecided.delete(socket);
			if (!isHttp2) return void acceptHttp1?.call(http1, socket);
			// HTTP/1.1 knows peers that have said all they have to say and wait for the answer; in HTTP/2 they have left.
			socket.allowHalfOpen = false;
			http2.emit("connection", socket);
		});
	});
	http1.on("clientError", answerMalformed);
	return http1;
}

function remember<T extends Socket | ServerResponse | ServerHttp2Session>(peer: T, among: Set<T>): void {
	among.add(peer);
	peer.once("close", () => among.delete(peer));
}

/** RFC 9113 3.4: what a client that knows the server speaks HTTP/2 begins with. */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Looks at a connection's first bytes and puts them back. A connection that sends none is closed after a while. */
function detectHttp2(socket: Socket, decide: (isHttp2: boolean) => void): void {
	const giveUp = () => socket.destroy();
	let seen: Buffer = Buffer.alloc(0);
	const look = () => {
		const bytes = socket.read() as Buffer | null;
		if (!bytes) return;
		seen = Buffer.concat([seen, bytes]);
		const begins = seen.subarray(0, PREFACE.length);
		const maybeHttp2 = begins.equals(PREFACE.subarray(0, begins.length));
		if (maybeHttp2 && begins.length < PREFACE.length) return;
		socket.off("readable", look).off("end", giveUp).off("timeout", giveUp).setTimeout(0);
		socket.unshift(seen);
		decide(maybeHttp2);
	};
	// A broken connection ends here, whoever has it later.
	socket.on("error", giveUp);
	socket.on("end", giveUp).on("timeout", giveUp).setTimeout(CONNECTION_LIMITS.firstBytesMs);
	socket.on("readable", look);
}

/** What never became a request has no response to write to. */
function answerMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
	if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
	const status = STATUS_OF_CLIENT_ERROR[error.code ?? ""] ?? "400 Bad Request";
	socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\nx-request-id: ${randomUUID()}\r\n\r\n`);
}

const STATUS_OF_CLIENT_ERROR: Record<string, string> = {
	HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
	ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
};

function trackSession(session: ServerHttp2Session, { sessions }: Peers): void {
	remember(session, sessions);
	// A peer that breaks the protocol loses its session; that is all.
	session.on("error", () => session.destroy());
	session.setTimeout(CONNECTION_LIMITS.idleSessionMs, () => session.close());
}

function startListening(server: Server, host: string, port: number): Promise<AddressInfo> {
	return new Promise((resolve, reject) => {
		server.once("error", (error: NodeJS.ErrnoException) => {
			if (error.code !== "EADDRINUSE") return reject(error);
			const taken = new Error(`port ${port} on ${host} is taken by another program`, { cause: error });
			reject(Object.assign(taken, { code: error.code, port }));
		});
		server.listen({ host, port }, () => {
			server.removeAllListeners("error");
			resolve(server.address() as AddressInfo);
		});
	});
}

async function drain(server: Server, peers: Peers, drainMs: number): Promise<void> {
	const closed = new Promise<void>((resolve) => server.close(() => resolve()));
	if ("closeIdleConnections" in server) (server as Http1Server).closeIdleConnections();
	for (const socket of peers.undecided) socket.destroy();
	for (const session of peers.sessions) session.close();
	for (const answer of peers.answers) endConnectionAfter(answer);
	const destroyAll = () => {
		for (const session of peers.sessions) session.destroy();
		for (const socket of peers.sockets) socket.destroy();
	};
	const timers = [setTimeout(destroyAll, drainMs)];
	// Whoever is connected when all is answered is still sending a request that was refused early, or lingers.
	void allAnswered(peers).then(() => timers.push(setTimeout(destroyAll, LINGER_MS).unref()));
	await closed;
	for (const timer of timers) clearTimeout(timer);
}

/** Enough for the last bytes of an answer to be read. */
const LINGER_MS = 500;

async function allAnswered({ answers, sessions }: Peers): Promise<void> {
	while (answers.size + sessions.size > 0) {
		// Not `once` of node:events: that rejects when an error comes first.
		const ended = [...answers, ...sessions].map((peer) => new Promise((resolve) => peer.once("close", resolve)));
		await Promise.all(ended);
	}
}

function endConnectionAfter(answer: ServerResponse): void {
	if (!answer.headersSent) answer.setHeader("connection", "close");
}

/** A URL that a client on this machine can use; a wildcard address is none. */
function urlOf(host: string, { address, family, port }: AddressInfo): string {
	if (host === "0.0.0.0" || host === "::") return `http://localhost:${port}`;
	return family === "IPv6" ? `http://[${address}]:${port}` : `http://${address}:${port}`;
}
