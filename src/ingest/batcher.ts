import { AuditError } from "../errors.ts";
import type { Appended, Write } from "../storage/append.ts";
import type { Trace } from "../trace.ts";

export interface BatcherOptions {
	/** Stores the writes of one flush and says what became of each, in order; the traces are those of their calls. */
	readonly flush: (writes: readonly Write[], traces: readonly Trace[]) => Promise<PromiseSettledResult<Appended>[]>;
	/** What one flush holds at most. One write that is larger by itself is flushed alone. */
	readonly flushEvents: number;
	readonly flushBytes: number;
	/** What may wait at most; whoever comes then is turned away. */
	readonly waitingEvents: number;
	readonly waitingBytes: number;
}

interface Waiting {
	readonly write: Write;
	readonly bytes: number;
	readonly trace: Trace | undefined;
	/** By the clock of `performance.now()`. */
	readonly since: number;
	readonly resolve: (appended: Appended) => void;
	readonly reject: (reason: unknown) => void;
}

/**
 * Group commit: concurrent calls share a transaction.
 *
 * Idle → a write arrives → flushing, at once: a lone event does not wait for company. While flushing, writes wait in
 * line; when the flush is done the next takes as many of them, in order, as fit its bounds. No write is split. An
 * empty line → idle. Closing refuses new writes and lets the line run empty.
 */
export class Batcher {
	readonly #options: BatcherOptions;
	#line: Waiting[] = [];
	#events = 0;
	#bytes = 0;
	#flushing: Promise<void> | undefined;
	#closed = false;

	constructor(options: BatcherOptions) {
		this.#options = options;
	}

	/** What waits for its turn, without what is being flushed. */
	get waiting(): { events: number; bytes: number; oldestMs: number } {
		const [oldest] = this.#line;
		return { events: this.#events, bytes: this.#bytes, oldestMs: oldest ? performance.now() - oldest.since : 0 };
	}

	/** Resolves once the write is committed; rejects with an AuditError otherwise. */
	add(write: Write, trace?: Trace): Promise<Appended> {
		if (this.#closed) return Promise.reject(shuttingDown());
		const bytes = write.rows.reduce((sum, row) => sum + row.event.bytes, 0);
		const { waitingEvents, waitingBytes } = this.#options;
		// An empty line takes any write: one that is larger than the bounds could never get in otherwise.
		const full = this.#events + write.rows.length > waitingEvents || this.#bytes + bytes > waitingBytes;
		if (full && this.#line.length > 0) return Promise.reject(overloaded());
		return new Promise((resolve, reject) => {
			this.#line.push({ write, bytes, trace, since: performance.now(), resolve, reject });
			this.#events += write.rows.length;
			this.#bytes += bytes;
			this.#flushing ??= this.#flushLine();
		});
	}

	/** Refuses new writes and waits until the accepted ones are decided. */
	async close(): Promise<void> {
		this.#closed = true;
		await this.#flushing;
	}

	async #flushLine(): Promise<void> {
		while (this.#line.length > 0) {
			const group = this.#take();
			try {
				const settled = await this.#options.flush(
					group.map(({ write }) => write),
					group.flatMap(({ trace }) => trace ?? []),
				);
				group.forEach(({ resolve, reject }, i) => {
					const result = settled[i];
					if (result?.status === "fulfilled") resolve(result.value);
					else reject(result?.reason);
				});
			} catch (error) {
				for (const { reject } of group) reject(error);
			}
		}
		this.#flushing = undefined;
	}

	#take(): Waiting[] {
		let events = 0;
		let bytes = 0;
		let n = 0;
		for (const { write, bytes: size } of this.#line) {
			events += write.rows.length;
			bytes += size;
			if (n > 0 && (events > this.#options.flushEvents || bytes > this.#options.flushBytes)) break;
			n += 1;
		}
		const group = this.#line.splice(0, n);
		for (const { write, bytes: size } of group) {
			this.#events -= write.rows.length;
			this.#bytes -= size;
		}
		return group;
	}
}

function overloaded(): AuditError {
	return new AuditError("resource_exhausted", "too many writes are waiting; try again", {
		reason: "WRITE_QUEUE_FULL",
		retryAfterMs: 500,
	});
}

function shuttingDown(): AuditError {
	return new AuditError("unavailable", "the service is shutting down; try again", {
		reason: "SHUTTING_DOWN",
		retryAfterMs: 1_000,
	});
}
