import type { Turns } from "./turns.ts";

/**
 * Asks for the next piece while the one before is worked on, and for none beyond that: who does not take what he has asked for
 * keeps the database from reading on.
 */
export async function* ahead<T>(pieces: AsyncGenerator<T>, turns: Turns): AsyncGenerator<T> {
	const ask = () => {
		const next = turns.take(() => pieces.next());
		// Perhaps nobody waits for it any more.
		next.catch(() => {});
		return next;
	};
	try {
		for (let next = ask(); ; ) {
			const { done, value } = await next;
			if (done) return;
			next = ask();
			yield value;
		}
	} finally {
		// Not waited for: it may be in the middle of a statement, which its own signal ends.
		void pieces.return(undefined).catch(() => {});
	}
}
