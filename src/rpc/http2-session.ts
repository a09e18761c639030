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
	closeWhenIdle(session, bounds.idleMs);
	endWhenGone(session, socket, bounds);
	endAfterResets(session);
}

function closeWhenIdle(session: ServerHttp2Session, idleMs: number): void {
	let open = 0;
	// GOAWAY names the last call that was taken: what was then on its way, the peer may send again elsewhere.
	const startTimer = () => setTimeout(() => session.close(), idleMs).unref();
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
		if (!isSilent) {
			clearTimeout(gone);
			gone = undefined;
		} else if (!gone && !session.destroyed) {
			gone = setTimeout(() => void (socket.bytesRead === heard && session.destroy()), pongMs).unref();
			session.ping(() => {});
		}
	}, pingMs).unref();
	session.once("close", () => {
		clearInterval(timer);
		clearTimeout(gone);
	});
}

const refusedByUs = new WeakSet<ServerHttp2Stream>();

/** Turns a call away: nothing was done, so that every client may try again. */
export function refuseStream(stream: ServerHttp2Stream): void {
	refusedByUs.add(stream);
	stream.close(constants.NGHTTP2_REFUSED_STREAM);
}

/** Counts the calls that their caller cancelled as soon as it had begun them. Others were bounded by their number. */
function endAfterResets(session: ServerHttp2Session): void {
	let tokens: number = RESET_LIMITS.burst;
	let countedAt = performance.now();
	session.on("stream", (stream: ServerHttp2Stream) => {
		const begunAt = performance.now();
		// Not at "aborted": that may have come before we hear of the call.
		stream.once("close", () => {
			const now = performance.now();
			// Its code does not tell who ended it.
			if (!stream.aborted || refusedByUs.has(stream)) return;
			if (session.destroyed || now - begunAt > 1_000) return;
			tokens = Math.min(RESET_LIMITS.burst, tokens + ((now - countedAt) / 1_000) * RESET_LIMITS.perSecond) - 1;
			countedAt = now;
			if (tokens < 0) session.destroy(new Error("too many cancelled calls"), constants.NGHTTP2_ENHANCE_YOUR_CALM);
		});
	});
}
