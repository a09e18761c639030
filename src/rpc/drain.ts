import type { Server as Http1Server, ServerResponse } from "node:http";
import type { ServerHttp2Session } from "node:http2";
import { type Server, type Socket, Server as TcpServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Who is connected to a port, as far as closing must know. */
export interface Peers {
	readonly sockets: Set<Socket>;
	/** Connections that have not yet said which protocol they speak. */
	readonly undecided: Set<Socket>;
	/** HTTP/1.1 responses not yet finished. */
	readonly answers: Set<ServerResponse>;
	readonly sessions: Set<ServerHttp2Session>;
}

export function remember<T extends Socket | ServerResponse | ServerHttp2Session>(peer: T, among: Set<T>): void {
	among.add(peer);
	peer.once("close", () => among.delete(peer));
}

/**
 * Closes a port so that nobody who listens to what it says loses a call: no new connections; HTTP/2 peers are told by
 * GOAWAY, which names the last call that was taken; HTTP/1.1 peers by `Connection: close` on their next answer, for which
 * those without a call get a moment. What is not finished after `drainMs` is cut off.
 */
export async function drain(server: Server, peers: Peers, drainMs: number): Promise<void> {
	// Not the server's own `close`: that cuts idle connections off, though a request may be on its way.
	const closed = new Promise<void>((resolve) => TcpServer.prototype.close.call(server, () => resolve()));
	const patienceMs = Math.min(IDLE_PATIENCE_MS, drainMs);
	for (const answer of peers.answers) endConnectionAfter(answer);
	for (const session of peers.sessions) session.close();
	const destroyAll = () => {
		for (const session of peers.sessions) session.destroy();
		for (const socket of peers.sockets) socket.destroy();
	};
	const closeIdle = () => {
		for (const socket of peers.undecided) socket.destroy();
		if ("closeIdleConnections" in server) (server as Http1Server).closeIdleConnections();
		// Whoever is connected when all is answered is still sending a request that was refused early, or lingers.
		void allAnswered(peers).then(() => sleep(LINGER_MS, undefined, { ref: false }).then(destroyAll));
	};
	const timers = [setTimeout(destroyAll, drainMs), setTimeout(closeIdle, patienceMs)];
	await closed;
	for (const timer of timers) clearTimeout(timer);
}

/** How long a peer without a call may take to send one that it had begun before it knew. */
const IDLE_PATIENCE_MS = 2_000;

/** Enough for the last bytes of an answer to be read. */
const LINGER_MS = 500;

async function allAnswered({ answers, sessions }: Peers): Promise<void> {
	while (answers.size + sessions.size > 0) {
		// Not `once` of node:events: that rejects when an error comes first.
		const ended = [...answers, ...sessions].map((peer) => new Promise((resolve) => peer.once("close", resolve)));
		await Promise.all(ended);
	}
}

export function endConnectionAfter(answer: ServerResponse): void {
	if (!answer.headersSent) answer.setHeader("connection", "close");
}
