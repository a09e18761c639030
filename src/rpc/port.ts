import { randomUUID } from "node:crypto";
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, createSecureServer, type ServerHttp2Session } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Server, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { NodeRequest, NodeResponse } from "./call.ts";
import type { Connections } from "./connections.ts";
import { drain, endConnectionAfter, type Peers, remember } from "./drain.ts";
import { careFor } from "./http2-session.ts";
import { type DoorLimits, HTTP1_LIMITS, HTTP2_LIMITS } from "./limits.ts";
import { SECURITY_HEADERS } from "./security-headers.ts";
import { behindTls, type TlsFiles, tlsOptions } from "./tls-front.ts";

export interface PortOptions {
	readonly host: string;
	readonly port: number;
	/** `http2` alone, or `any`: HTTP/1.1 and HTTP/2 on the same port. */
	readonly protocol: "http2" | "any";
	/** With it the port speaks TLS and nothing else. */
	readonly tls?: TlsFiles | undefined;
	/** Who else is connected, on whatever port. */
	readonly connections: Connections;
	readonly limits: DoorLimits;
	readonly handle: (request: NodeRequest, response: NodeResponse) => void;
}

export interface OpenPort {
	readonly url: string;
	/** How many are open at the moment. */
	connections(): number;
	/**
	 * Stops accepting, tells peers to go elsewhere, lets the calls in flight finish and cuts off what has not finished
	 * after `drainMs`.
	 */
	close(drainMs: number): Promise<void>;
}

/** Listens. @throws Error with `code` EADDRINUSE and `port` if the port is taken */
export async function openPort(options: PortOptions): Promise<OpenPort> {
	const { host, port, protocol, connections } = options;
	const peers: Peers = { sockets: new Set(), undecided: new Set(), answers: new Set(), sessions: new Set() };
	const { server, accept } = protocol === "any" ? createBoth(options, peers) : createHttp2(options, peers);
	server.on("connection", (socket: Socket) => {
		if (!connections.admit(socket)) return;
		remember(socket, peers.sockets);
		endAfterFarewell(socket);
		accept(socket);
	});
	const address = await startListening(server, host, port);
	return {
		url: urlOf(options.tls ? "https" : "http", host, address),
		connections: () => peers.sockets.size,
		close: (drainMs) => drain(server, peers, drainMs),
	};
}

/** A peer that does not close its end of a connection we have closed would hold it. */
function endAfterFarewell(socket: Socket): void {
	socket.once("finish", () => setTimeout(() => socket.destroy(), FAREWELL_MS).unref());
}

/** Enough to read what is still on its way. */
const FAREWELL_MS = 5_000;

/** A server that does not accept connections by itself. */
interface Acceptor {
	readonly server: Server;
	readonly accept: (socket: Socket) => void;
}

/** @param listener the server that listens, and sees to TLS, if it is another one */
function createHttp2({ handle, limits, tls }: PortOptions, peers: Peers, listener?: Server): Acceptor {
	const secure =
		tls && !listener
			? createSecureServer({ ...HTTP2_LIMITS, ...tlsOptions(tls, limits.headersMs) }, handle)
			: undefined;
	const server = secure ?? createHttp2Server(HTTP2_LIMITS, handle);
	// Node would answer these by itself, and not as we answer.
	server.on("connect", handle).on("checkExpectation", handle);
	const takeOver = takeAccept(server, secure ? "secureConnection" : "connection");
	const accept = (socket: Socket) => {
		const begin = (session: ServerHttp2Session) => {
			remember(session, peers.sessions);
			careFor(session, socket, limits);
			// Somebody who connected before the end, and spoke only now.
			if (!(listener ?? server).listening) session.close();
		};
		// Comes within the call.
		server.once("session", begin);
		takeOver(socket);
		server.off("session", begin);
	};
	return secure && tls ? { server, accept: behindTls(secure, tls, ended(accept)) } : { server, accept };
}

/** An HTTP/1.1 server that hands the connections of those who speak HTTP/2 on to an HTTP/2 server. */
function createBoth(options: PortOptions, peers: Peers): Acceptor {
	const { handle, limits, tls } = options;
	const times = { headersTimeout: limits.headersMs, connectionsCheckingInterval: limits.headersMs / 4 };
	const answer = (request: IncomingMessage, response: ServerResponse<IncomingMessage>) => {
		remember(response, peers.answers);
		if (!server.listening) endConnectionAfter(response);
		handle(request, response);
	};
	const http1 = { ...HTTP1_LIMITS, ...times };
	const secure =
		tls && createHttpsServer({ ...http1, ...tlsOptions(tls, limits.headersMs), ALPNProtocols: ALPN }, answer);
	const server: Server = secure ?? createHttp1Server(http1, answer);
	server.on("clientError", answerMalformed).on("checkExpectation", answer);
	const acceptHttp1 = takeAccept(server, secure ? "secureConnection" : "connection");
	const http2 = createHttp2(options, peers, server);
	const acceptHttp2 = (socket: Socket) => {
		// HTTP/1.1 knows peers that have said all they have to say and wait for the answer; in HTTP/2 they have left.
		socket.allowHalfOpen = false;
		http2.accept(socket);
	};
	if (secure && tls) {
		const accept = (socket: TLSSocket) => (socket.alpnProtocol === "h2" ? acceptHttp2 : acceptHttp1)(socket);
		return { server, accept: behindTls(secure, tls, ended(accept)) };
	}
	const accept = (socket: Socket) => {
		remember(socket, peers.undecided);
		detectHttp2(socket, limits.headersMs, (isHttp2) => {
			peers.undecided.delete(socket);
			(isHttp2 ? acceptHttp2 : acceptHttp1)(socket);
		});
	};
	return { server, accept };
}

/** What a client may choose from, the best first; one that knows neither is taken to speak HTTP/1.1. */
const ALPN = ["h2", "http/1.1"];

/** TLS has a farewell of its own above that of TCP. */
function ended<S extends Socket>(accept: (socket: S) => void): (socket: S) => void {
	return (socket) => {
		endAfterFarewell(socket);
		accept(socket);
	};
}

/** Takes from a server what it does with a new connection. */
function takeAccept(server: Server, event: "connection" | "secureConnection"): (socket: Socket) => void {
	const [accept] = server.listeners(event);
	server.removeAllListeners(event);
	return (socket) => void accept?.call(server, socket);
}

/** RFC 9113 3.4: what a client that knows the server speaks HTTP/2 begins with. */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Looks at a connection's first bytes and puts them back. A connection that does not send them in time is closed. */
function detectHttp2(socket: Socket, withinMs: number, decide: (isHttp2: boolean) => void): void {
	const giveUp = () => socket.destroy();
	const timer = setTimeout(giveUp, withinMs).unref();
	socket.once("close", () => clearTimeout(timer));
	let seen: Buffer = Buffer.alloc(0);
	const look = () => {
		const bytes = socket.read() as Buffer | null;
		if (!bytes) return;
		seen = Buffer.concat([seen, bytes]);
		const begins = seen.subarray(0, PREFACE.length);
		const maybeHttp2 = begins.equals(PREFACE.subarray(0, begins.length));
		if (maybeHttp2 && begins.length < PREFACE.length) return;
		clearTimeout(timer);
		socket.off("readable", look).off("end", giveUp);
		socket.unshift(seen);
		decide(maybeHttp2);
	};
	// A broken connection ends here, whoever has it later.
	socket.on("error", giveUp);
	socket.on("end", giveUp);
	socket.on("readable", look);
}

/** What never became a request has no response to write to. */
function answerMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
	if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
	const status = STATUS_OF_CLIENT_ERROR[error.code ?? ""] ?? "400 Bad Request";
	const headers = { connection: "close", "content-length": 0, "x-request-id": randomUUID(), ...SECURITY_HEADERS };
	const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
	socket.end(`HTTP/1.1 ${status}\r\n${lines.join("")}\r\n`);
}

const STATUS_OF_CLIENT_ERROR: Record<string, string> = {
	HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
	ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
};

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

/** A URL that a client on this machine can use; a wildcard address is none. */
function urlOf(scheme: "http" | "https", host: string, { address, family, port }: AddressInfo): string {
	if (host === "0.0.0.0" || host === "::") return `${scheme}://localhost:${port}`;
	return family === "IPv6" ? `${scheme}://[${address}]:${port}` : `${scheme}://${address}:${port}`;
}
