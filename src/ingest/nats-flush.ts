import { setImmediate } from "node:timers/promises";
import { AuditError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { DeadLetter } from "../storage/dead-letters.ts";
import type { MessageItem } from "./ingest.ts";
import { decodeMessage, type IncomingMessage } from "./nats-message.ts";
import type { Room } from "./nats-pull.ts";

/** A message that is taken in and not yet acknowledged. */
export interface Held {
	readonly message: IncomingMessage;
	readonly streamCreated: Date;
	/** Which stream and consumer it came from: it may be acknowledged to no other. */
	readonly incarnation: string;
	/** Names it among all that are held. */
	readonly key: string;
	readonly bytes: number;
	/** Where to acknowledge: the newest, if it was delivered more than once. */
	reply: string;
	/** Committed, and not yet acknowledged. */
	stored: boolean;
	/** When it was taken in, by the clock of `performance.now()`. */
	readonly since: number;
}

/** Stores the items in one transaction; rejects if nothing is known to be committed. Safe to repeat. */
export type AcceptMessages = (items: readonly MessageItem[]) => Promise<{ deadLetters: readonly DeadLetter[] }>;

export interface FlushLoopOptions {
	readonly acceptMessages: AcceptMessages;
	/** Called after COMMIT; the next flush is not committed before it resolves. */
	readonly onStored: (held: readonly Held[], deadLetters: readonly DeadLetter[]) => Promise<void>;
	/** There is room for more again. */
	readonly onRoom: () => void;
	readonly logger: Logger;
}

/** A flush is closed when it holds this much, or this long after its first message. */
const FLUSH_EVENTS = 5_000;
const FLUSH_BYTES = 8 * 1024 * 1024;
const FLUSH_AGE_MS = 100;
/** What waits undecoded, beside the flush that is being formed and the one that is being committed. */
const WAITING_MESSAGES = 5_000;
const WAITING_BYTES = 8 * 1024 * 1024;
/** For how long decoding may keep the process from anything else. */
const SLICE_MS = 5;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;

interface Flush {
	readonly held: Held[];
	readonly items: MessageItem[];
	bytes: number;
}

/**
 * Turns messages into commits: while one flush is being committed the next one is being formed.
 *
 * Waiting for a first message → forming (decoding what comes, until the flush is full, or is old enough and nothing is
 * being committed) → committing, while the next is being formed → stored. A commit that fails is tried again, for ever;
 * until it succeeds there is no room, so nothing more is pulled. Closing: the commit under way
 * gets its one chance; everything else is handed back.
 */
export class FlushLoop {
	readonly #options: FlushLoopOptions;
	readonly #running: Promise<void>;
	#waiting: Held[] = [];
	#waitingBytes = 0;
	#committing: Promise<void> | undefined;
	#failure: string | undefined;
	#closing = false;
	/** What closing found not stored. */
	readonly #left: Held[] = [];
	#wake: () => void = () => {};
	#wakeRetry: () => void = () => {};

	constructor(options: FlushLoopOptions) {
		this.#options = options;
		this.#running = this.#run();
	}

	/** Why messages are not being stored at the moment, if they are not. */
	get failure(): string | undefined {
		return this.#failure;
	}

	/** How much may be pulled. Little room counts as none: many small pulls are slower than one. */
	room(): Room {
		const [messages, bytes] = [WAITING_MESSAGES - this.#waiting.length, WAITING_BYTES - this.#waitingBytes];
		const little = messages < WAITING_MESSAGES / 2 || bytes < WAITING_BYTES / 2;
		return little || this.#failure !== undefined || this.#closing ? { messages: 0, bytes: 0 } : { messages, bytes };
	}

	offer(held: Held): void {
		this.#waiting.push(held);
		this.#waitingBytes += held.bytes;
		this.#wake();
	}

	/** Waits for the commit under way. @returns the messages that are not stored */
	async close(): Promise<Held[]> {
		this.#closing = true;
		this.#wake();
		this.#wakeRetry();
		await this.#running;
		return [...this.#left, ...this.#waiting];
	}

	async #run(): Promise<void> {
		while (!this.#closing) {
			const flush = await this.#form();
			await this.#committing;
			if (this.#closing) this.#left.push(...flush.held);
			else if (flush.held.length > 0) this.#committing = this.#commit(flush);
		}
		await this.#committing;
	}

	async #form(): Promise<Flush> {
		const flush: Flush = { held: [], items: [], bytes: 0 };
		let firstAt: number | undefined;
		let sliceAt = performance.now();
		while (!this.#closing && !isFull(flush)) {
			const held = this.#waiting.shift();
			if (held) {
				firstAt ??= performance.now();
				this.#waitingBytes -= held.bytes;
				flush.held.push(held);
				flush.bytes += held.bytes;
				for (const item of decodeMessage(held.message, held.streamCreated)) flush.items.push(item);
				if (performance.now() - sliceAt > SLICE_MS) {
					await setImmediate();
					sliceAt = performance.now();
				}
				continue;
			}
			this.#options.onRoom();
			const leftMs = firstAt === undefined ? undefined : firstAt + FLUSH_AGE_MS - performance.now();
			// While another flush is being committed this one cannot be: it may as well grow.
			if (leftMs !== undefined && leftMs <= 0 && !this.#committing) break;
			await this.#woken(this.#committing ? undefined : leftMs);
			sliceAt = performance.now();
		}
		this.#options.onRoom();
		return flush;
	}

	async #commit(flush: Flush): Promise<void> {
		try {
			const deadLetters = await this.#accept(flush);
			if (deadLetters) await this.#options.onStored(flush.held, deadLetters);
			else this.#left.push(...flush.held);
		} finally {
			this.#committing = undefined;
			this.#wake();
		}
	}

	/**
	 * Tries until all items are stored. After a failure it tries fewer at a time: a database that is slow, not away, would
	 * otherwise run into the same deadline with the same items for ever.
	 *
	 * @returns undefined if closing came first
	 */
	async #accept({ items }: Flush): Promise<readonly DeadLetter[] | undefined> {
		const letters: DeadLetter[] = [];
		let [done, atOnce, failures] = [0, items.length, 0];
		while (done < items.length) {
			try {
				const { deadLetters } = await this.#options.acceptMessages(items.slice(done, done + atOnce));
				letters.push(...deadLetters);
				done += atOnce;
				// After an outage it may be down to one: that many transactions would be a second outage.
				atOnce *= 2;
				failures = 0;
				this.#recovered();
			} catch (error) {
				this.#failed(error, items.length - done);
				if (this.#closing) return undefined;
				await this.#pause(failures);
				failures += 1;
				atOnce = Math.ceil(atOnce / 2);
			}
			if (this.#closing && done < items.length) return undefined;
		}
		return letters;
	}

	#failed(error: unknown, items: number): void {
		const known = error instanceof AuditError;
		const first = this.#failure === undefined;
		this.#failure = `messages cannot be stored: ${known ? error.message : "internal error"}`;
		// Once for each outage, not for each attempt; but an error nobody has foreseen is told every time.
		if (known && !first) return;
		const facts = { err: error, events: items };
		if (known) this.#options.logger.warn(facts, "messages cannot be stored; trying again");
		else this.#options.logger.error(facts, "messages cannot be stored; trying again");
	}

	#recovered(): void {
		if (this.#failure === undefined) return;
		this.#failure = undefined;
		this.#options.logger.info("messages are being stored again");
		this.#options.onRoom();
	}

	/** Full jitter: replicas that lost the same database must not come back at the same moment. */
	#pause(attempt: number): Promise<void> {
		const ceiling = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
		return new Promise((resolve) => {
			const timer = setTimeout(resolve, Math.random() * ceiling);
			this.#wakeRetry = () => {
				clearTimeout(timer);
				resolve();
			};
		});
	}

	/** Resolves when something happened: a message came, a commit is done, closing; after `ms` at the latest, if given. */
	#woken(ms: number | undefined): Promise<void> {
		return new Promise((resolve) => {
			const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
			this.#wake = () => {
				clearTimeout(timer);
				resolve();
			};
		});
	}
}

function isFull({ items, bytes }: Flush): boolean {
	return items.length >= FLUSH_EVENTS || bytes >= FLUSH_BYTES;
}
