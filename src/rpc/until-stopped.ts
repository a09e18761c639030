import type { AuditError } from "../errors.ts";
import { asConnectError, goingAway } from "./errors.ts";

/**
 * The messages of a streaming RPC, until the service is to stop: a stream that waits for news would keep it from that. Its
 * caller gets `unavailable` and goes on elsewhere.
 */
export async function* untilStopped<T>(messages: AsyncIterable<T>, stopping: AbortSignal): AsyncGenerator<T> {
	try {
		yield* messagesUntil(messages, stopping, goingAway);
	} catch (error) {
		// What goes wrong here comes by no interceptor any more.
		throw asConnectError(error);
	}
}

/** The messages of a streaming RPC, until it is to end. @throws what `why` gives then */
export async function* messagesUntil<T>(
	messages: AsyncIterable<T>,
	end: AbortSignal,
	why: () => AuditError,
): AsyncGenerator<T> {
	const source = messages[Symbol.asyncIterator]();
	try {
		for (;;) {
			const next = await orStopped(source.next(), end, why);
			if (next.done) return;
			yield next.value;
		}
	} finally {
		// Not waited for: it may be in the middle of waiting itself. Its call's signal is aborted, too.
		void source.return?.().catch(() => {});
	}
}

/** Not `Promise.race`: a promise that lives as long as the service would remember everyone it was raced with. */
export function orStopped<T>(work: Promise<T>, stopping: AbortSignal, why: () => AuditError): Promise<T> {
	return new Promise((resolve, reject) => {
		const stop = () => reject(why());
		if (stopping.aborted) stop();
		stopping.addEventListener("abort", stop, { once: true });
		void work.then(resolve, reject).finally(() => stopping.removeEventListener("abort", stop));
	});
}
