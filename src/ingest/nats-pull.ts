import { createInbox, type Msg, type NatsConnection, nanos, type Subscription } from "nats";
import { CONSUMER, EVENT_STREAM, MAX_MESSAGE_BYTES } from "./nats-stream.ts";

/** How much more may be taken in. */
export interface Room {
	readonly messages: number;
	readonly bytes: number;
}

export interface PullOptions {
	readonly nc: NatsConnection;
	/** Of the connection: where its user may listen. */
	readonly inboxPrefix: string;
	/** Asked before each pull: a pull never asks for more. Less than a full message's bytes means none. */
	readonly room: () => Room;
	readonly onMessage: (message: Msg) => void;
	/** Told once: no more will come. */
	readonly onEnd: (reason: string) => void;
}

/** How long the server keeps a pull open, and how often it says that it still does. */
const EXPIRES_MS = 30_000;
const HEARTBEAT_MS = 5_000;
/** So many heartbeats missed mean that the server has forgotten the pull. */
const MISSED_HEARTBEATS = 3;
const PAUSE_MS = 250;

/**
 * Takes messages from the consumer, one bounded pull at a time.
 *
 * Resting → there is room → pulling: the server sends what it has and goes on sending as messages come. The pull is
 * over when it is used up (by count or bytes), expires, or is turned away → resting → room again → the next one. No
 * heartbeat while pulling, the consumer gone, or the server stopping → ended, for good: the session is opened anew.
 *
 * This speaks the pull protocol (ADR-13) instead of using the library's `fetch` and `consume`, because those take a
 * bound in messages or in bytes but not in both, `fetch` cannot end sooner than a second, and `consume` goes on for
 * ever retrying in silence when its consumer is gone.
 */
export class Pull {
	readonly #options: PullOptions;
	readonly #inbox: string;
	readonly #subscription: Subscription;
	readonly #heartbeats: NodeJS.Timeout;
	/** What the pull under way may still bring; undefined while resting. */
	#open: { messages: number; bytes: number } | undefined;
	/** Numbers the pulls: a late word about an earlier one must not end the current one. */
	#number = 0;
	#heardAt = 0;
	#pause: NodeJS.Timeout | undefined;
	#ended = false;

	constructor(options: PullOptions) {
		this.#options = options;
		this.#inbox = createInbox(options.inboxPrefix);
		this.#subscription = options.nc.subscribe(`${this.#inbox}.*`, {
			// The library's reader stops for ever, in silence, if this throws.
			callback: (error, message) => {
				if (this.#ended) return;
				try {
					if (error) this.#end(`the subscription failed: ${error.message}`);
					else if (message.subject.startsWith(`${this.#inbox}.`)) this.#hear(message);
					else this.#take(message);
				} catch (thrown) {
					this.#end(`a message could not be taken in: ${(thrown as Error).message}`);
				}
			},
		});
		this.#heartbeats = setInterval(() => this.#checkHeartbeats(), HEARTBEAT_MS);
	}

	/** Whether the server owes us messages as they come. */
	get pulling(): boolean {
		return this.#open !== undefined;
	}

	/** Pulls if nothing is being pulled and there is room. */
	more(): void {
		if (this.#ended || this.#open || this.#pause) return;
		const { messages, bytes } = this.#options.room();
		// A message that is larger than the bytes asked for would be turned away, and no other would come.
		if (messages < 1 || bytes < 2 * MAX_MESSAGE_BYTES) return;
		this.#open = { messages, bytes };
		this.#heardAt = performance.now();
		this.#number += 1;
		const request = {
			batch: messages,
			max_bytes: bytes,
			expires: nanos(EXPIRES_MS),
			idle_heartbeat: nanos(HEARTBEAT_MS),
		};
		this.#options.nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${EVENT_STREAM}.${CONSUMER}`, JSON.stringify(request), {
			reply: `${this.#inbox}.${this.#number}`,
		});
	}

	/** No message is taken in from here on. */
	close(): void {
		this.#ended = true;
		clearInterval(this.#heartbeats);
		clearTimeout(this.#pause);
		this.#subscription.unsubscribe();
	}

	#end(reason: string): void {
		if (this.#ended) return;
		this.close();
		this.#options.onEnd(reason);
	}

	#take(message: Msg): void {
		this.#heardAt = performance.now();
		this.#options.onMessage(message);
		const open = this.#open;
		if (!open) return;
		open.messages -= 1;
		open.bytes -= sizeOf(message);
		if (open.messages > 0 && open.bytes > 0) return;
		this.#open = undefined;
		this.more();
	}

	/** What the server says about a pull: a status in the headers, no body. */
	#hear(status: Msg): void {
		this.#heardAt = performance.now();
		const code = status.headers?.code ?? 0;
		const words = status.headers?.description ?? "";
		if (code === 100 || status.subject !== `${this.#inbox}.${this.#number}`) return;
		if (code === 503) return this.#end("the consumer is gone (nobody answers for it)");
		if (code === 400) return this.#end(`the pull was malformed: ${words}`);
		if (/consumer deleted|server shutdown|push based|maxrequest/i.test(words))
			return this.#end(`the pull was ended: ${words}`);
		this.#open = undefined;
		if (code === 408 || /maxbytes/i.test(words)) return this.more();
		// A change of leader, or too many pulls waiting: asking again at once would be a hot loop.
		this.#pause = setTimeout(() => {
			this.#pause = undefined;
			this.more();
		}, PAUSE_MS);
	}

	#checkHeartbeats(): void {
		if (!this.#open) return this.more();
		if (performance.now() - this.#heardAt > MISSED_HEARTBEATS * HEARTBEAT_MS) this.#end("the pull went silent");
	}
}

/** As the server counts a message against a pull's `max_bytes`. */
export function sizeOf(message: Msg): number {
	// The library has this number, but not in its interface's types.
	return (message as Msg & { size(): number }).size();
}
