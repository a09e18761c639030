import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { RESET_LIMITS } from "./limits.ts";

export interface SessionBounds {
	readonly idleMs: number;
	readonly pingMs: number;
	readonly pongMs: number;
}

/**
 * Looks after one HTTP/2 session until it ends: a peer that is gone is noticed though nothing is said, one without a call
 * is sent away after a while, one that begins calls only to cancel them loses the session. The others do not notice.
 */
export function careFor(session: ServerHttp2Session, socket: Socket, bounds: SessionBounds): void {
	// A peer that breaks the protocol loses its session; that is all.
	session.on("error", () => session.destroy());
	closeWhenIdle(session, bounds);
	endWhenGone(session, socket, bounds);
	endAfterResets(session);
}

function closeWhenIdle(session: ServerHttp2Session, { idleMs, pongMs }: SessionBounds): void {
	let open = 0;
	// A call that is just then on its way is still taken, as at every other end.
	const startTimer = () => setTimeout(() => void sendAway(session, pongMs), idleMs).unref();
	let timer = startTimer();
	session.on("stream", (stream: ServerHttp2Stream) => {
		open += 1;
		clearTimeout(timer);
		stream.once("close", () => {
			open -= 1;
			if (open === 0) timer = startTimer();
		});
	});
	session.once("close", () => clearTimeout(timer));
}

/** PING: the only way to tell an idle peer from one that is gone. Whatever it sends shows that it lives. */
function endWhenGone(session: ServerHttp2Session, socket: Socket, { pingMs, pongMs }: SessionBounds): void {
	let heard = socket.bytesRead;
	let gone: NodeJS.Timeout | undefined;
	const timer = setInterval(() => {
		const isSilent = socket.bytesRead === heard;
		heard = socket.bytesRead;
		if (!isSilent || gone || session.destroyed) return;
		gone = setTimeout(() => {
			gone = undefined;
			if (socket.bytesRead === heard) session.destroy();
		}, pongMs).unref();
		session.ping(() => {});
	}, pingMs).unref();
	session.once("close", () => {
		clearInterval(timer);
		clearTimeout(gone);
	});
}

/** Counts the calls that their caller cancelled as soon as it had begun them. Others were bounded by their number. */
function endAfterResets(session: ServerHttp2Session): void {
	let tokens: number = RESET_LIMITS.burst;
	let countedAt = performance.now();
	session.on("stream", (stream: ServerHttp2Stream) => {
		const begunAt = performance.now();
		stream.once("aborted", () => {
			const now = performance.now();
			if (session.destroyed || now - begunAt > 1_000) return;
			tokens = Math.min(RESET_LIMITS.burst, tokens + ((now - countedAt) / 1_000) * RESET_LIMITS.perSecond) - 1;
			countedAt = now;
			if (tokens < 0) session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
		});
	});
}

/**
 * Ends a session without losing a call (RFC 9113 6.8): GOAWAY names no last call yet, so that those on their way are still
 * taken; when the peer has answered the PING behind it there are no more of them, and the final GOAWAY names the last one.
 * A peer that does not answer has `patienceMs`.
 */
export async function sendAway(session: ServerHttp2Session, patienceMs: number): Promise<void> {
	if (session.closed || session.destroyed) return;
	session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1);
	await new Promise<void>((resolve) => {
		const timer = setTimeout(resolve, patienceMs).unref();
		session.once("close", resolve);
		session.ping(() => {
			clearTimeout(timer);
			resolve();
		});
	});
	if (!session.destroyed) session.close();
}
