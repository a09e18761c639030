import type { Msg } from "nats";
import type { Logger } from "../logger.ts";
import type { NatsAccess } from "../nats-access.ts";
import type { ChainHead } from "../storage/batch.ts";
import type { DeadLetter } from "../storage/dead-letters.ts";
import { ChainHeads, copyDeadLetters } from "./nats-copies.ts";
import { canSyncFirst, shortcomingsOf } from "./nats-features.ts";
import { type AcceptMessages, FlushLoop, type Held } from "./nats-flush.ts";
import { placeOf } from "./nats-message.ts";
import { sizeOf } from "./nats-pull.ts";
import { Session } from "./nats-session.ts";
import type { SyncMode } from "./nats-sync.ts";

export interface NatsDoorOptions extends NatsAccess {
	/** Stores the events of messages: the one thing of the write path this door knows. */
	readonly ingest: { readonly acceptMessages: AcceptMessages };
	readonly logger: Logger;
	/** Where the server's monitoring answers, such as `http://nats:8222`: only there it says whether it syncs. */
	readonly monitorUrl?: string | undefined;
	/** What the event stream may hold. Default 32 GiB, less where the server has less room. */
	readonly maxStreamBytes?: number | undefined;
	/** After how long the server delivers a message again that nobody answered for. Default 60 s. */
	readonly ackWaitMs?: number | undefined;
}

/** For `/readyz` and the start-up summary. */
export interface NatsStatus {
	readonly state: "up" | "connecting" | "closed";
	/** Why it is not up, or what is wrong although it is. */
	readonly reason: string | undefined;
	/** Whether the server syncs before it acknowledges. */
	readonly sync: SyncMode;
	/** Messages that are in the stream and not yet stored, when last looked (every ten seconds). */
	readonly pending: number | undefined;
	/** Those of them that are delivered, to this replica or another. */
	readonly ackPending: number | undefined;
	/** Messages taken in here and not yet acknowledged. */
	readonly held: number;
	/** How long the oldest message that is not yet stored has been here; 0 if there is none. */
	readonly oldestMs: number;
	/** The server's version, while there is a connection. */
	readonly server: string | undefined;
}

const ACK_WAIT_MS = 60_000;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 5_000;

/**
 * The NATS door: takes messages from the stream AUDIT, has them stored, and acknowledges them after that.
 *
 * New → started: connecting (again and again, for ever) → up: pulling and flushing → connecting, whenever the session ends. Closing
 * from anywhere: no more pulling, the flush being committed is finished and acknowledged, everything else is given back.
 *
 * A message is held from its delivery to its acknowledgement, also across sessions: held → stored → acknowledged. A
 * message delivered again while it is held is the same message. One that is stored while there is no session is
 * acknowledged in the next one, if that has the same stream and consumer.
 */
export class NatsDoor {
	readonly #options: NatsDoorOptions;
	readonly #flushes: FlushLoop;
	readonly #heads: ChainHeads;
	readonly #held = new Map<string, Held>();
	readonly #extending: NodeJS.Timeout;
	#connecting: Promise<void> | undefined;
	#session: Session | undefined;
	#reason = "not connected yet";
	#closing = false;
	#wakeRetry: () => void = () => {};

	constructor(options: NatsDoorOptions) {
		this.#options = options;
		this.#heads = new ChainHeads(() => this.#session?.jetstream, options.logger);
		this.#flushes = new FlushLoop({
			acceptMessages: (items) => options.ingest.acceptMessages(items),
			onStored: (held, deadLetters) => this.#stored(held, deadLetters),
			onRoom: () => this.#session?.more(),
			logger: options.logger,
		});
		this.#extending = setInterval(() => this.#extend(), this.#ackWaitMs / 3);
	}

	/** Begins to connect, and does not wait for it: the service serves without NATS too. */
	start(): void {
		this.#connecting ??= this.#keepConnected();
	}

	status(): NatsStatus {
		const session = this.#session;
		const { pending, ackPending, serverVersion: server } = session ?? {};
		const facts = { pending, ackPending, server, held: this.#held.size, oldestMs: this.#oldestMs() };
		if (!session || this.#closing) {
			const state = this.#closing ? "closed" : "connecting";
			return { ...facts, state, reason: this.#reason, sync: session?.sync ?? "unknown" };
		}
		const problems = [this.#flushes.failure, ...session.missing].filter((problem) => problem !== undefined);
		const reason = problems.length > 0 ? problems.join("; ") : undefined;
		return { ...facts, state: "up", reason, sync: session.sync };
	}

	/** What is not as it should be, in words; nothing when all is well. */
	degraded(): string[] {
		const { state, reason, sync, server } = this.status();
		const words: string[] = [];
		if (state !== "up") words.push(`nats: ${state}${reason ? ` (${reason})` : ""}`);
		else if (reason !== undefined) words.push(`nats: ${reason}`);
		if (sync === "periodic") {
			const why = canSyncFirst(server) ? "" : ` (nats-server ${server} cannot do otherwise; 2.10 can)`;
			words.push(`nats: the server acknowledges before it syncs; a power cut can lose messages${why}`);
		}
		return words;
	}

	/** Carries the newest head of the manifest chain out of the database. Never waits, never throws. */
	publishChainHead(head: ChainHead): void {
		this.#heads.offer(head);
	}

	/** Stops pulling, lets the commit under way finish, acknowledges it, gives the rest back, and disconnects. */
	async close(): Promise<void> {
		this.#closing = true;
		this.#reason = "closed";
		this.#session?.stopPulling();
		this.#heads.close();
		const left = await this.#flushes.close();
		for (const held of left) if (this.#isOurs(held)) this.#session?.giveBack(held.reply);
		clearInterval(this.#extending);
		this.#wakeRetry();
		await this.#session?.close();
		await this.#connecting;
	}

	/** They are held in the order they came: the first that is not stored is the oldest. */
	#oldestMs(): number {
		for (const { stored, since } of this.#held.values()) if (!stored) return performance.now() - since;
		return 0;
	}

	get #ackWaitMs(): number {
		return this.#options.ackWaitMs ?? ACK_WAIT_MS;
	}

	async #keepConnected(): Promise<void> {
		for (let attempt = 0; !this.#closing; attempt += 1) {
			const lost = await this.#runSession(() => {
				attempt = 0;
			});
			if (this.#closing) return;
			// Once for each cause, not for each attempt.
			if (lost !== this.#reason) this.#options.logger.warn({ reason: lost }, "the NATS door is down; connecting again");
			this.#reason = lost;
			await this.#pause(attempt);
		}
	}

	/** One session from connecting to its end. @returns why it ended */
	async #runSession(onUp: () => void): Promise<string> {
		const { monitorUrl, maxStreamBytes, logger } = this.#options;
		let session: Session;
		try {
			session = await Session.open({
				access: this.#options,
				monitorUrl,
				maxBytes: maxStreamBytes,
				ackWaitMs: this.#ackWaitMs,
				room: () => this.#flushes.room(),
				onMessage: (message, from) => this.#receive(message, from),
				logger,
			});
		} catch (error) {
			return (error as Error).message;
		}
		if (this.#closing) {
			await session.close();
			return "closed";
		}
		this.#session = session;
		onUp();
		this.#reason = "";
		const { sync, pending, serverVersion } = session;
		logger.info({ server: serverVersion, sync, pending }, "the NATS door is up");
		const lacks = shortcomingsOf(serverVersion);
		if (lacks.length > 0) logger.warn({ server: serverVersion, lacks }, "the nats-server is too old for some features");
		this.#settle();
		this.#heads.connected();
		const reason = await session.ended;
		this.#session = undefined;
		await session.close();
		return reason;
	}

	/** Takes in a message, unless it is one that is held already. */
	#receive(message: Msg, session: Session): void {
		const reply = message.reply ?? "";
		const key = `${session.incarnation}/${placeOf(reply).streamSeq}`;
		const known = this.#held.get(key);
		if (known) {
			known.reply = reply;
			if (known.stored) this.#acknowledge(known);
			return;
		}
		const { streamCreated, incarnation } = session;
		const since = performance.now();
		const held: Held = {
			message,
			reply,
			streamCreated,
			incarnation,
			key,
			bytes: sizeOf(message),
			stored: false,
			since,
		};
		this.#held.set(key, held);
		this.#flushes.offer(held);
	}

	async #stored(flushed: readonly Held[], deadLetters: readonly DeadLetter[]): Promise<void> {
		// At this point every message of the flush is committed, as events, duplicates or dead letters, and may be
		// acknowledged. A crash before an acknowledgement arrives costs a redelivery, which is recognised as a duplicate.
		for (const held of flushed) {
			held.stored = true;
			this.#acknowledge(held);
		}
		if (deadLetters.length === 0) return;
		const reasons = [...new Set(deadLetters.map(({ reason }) => reason))];
		this.#options.logger.warn({ dead_letters: deadLetters.length, reasons }, "messages became dead letters");
		const js = this.#session?.jetstream;
		if (js) await copyDeadLetters(js, deadLetters, this.#options.logger);
	}

	/** Acknowledges what was stored while there was no session. */
	#settle(): void {
		for (const held of this.#held.values()) if (held.stored) this.#acknowledge(held);
	}

	/** To the stream and consumer it came from, and to no other: its number may name another message there. */
	#acknowledge(held: Held): void {
		const session = this.#session;
		if (!session) return;
		if (session.incarnation === held.incarnation && !session.ack(held.reply)) return;
		this.#held.delete(held.key);
	}

	/** Asks for more time with what is still being worked on. */
	#extend(): void {
		for (const held of this.#held.values()) {
			if (!held.stored && this.#isOurs(held)) this.#session?.working(held.reply);
		}
	}

	#isOurs(held: Held): boolean {
		return this.#session?.incarnation === held.incarnation;
	}

	/** Full jitter: replicas that lost the same server must not come back at the same moment. */
	#pause(attempt: number): Promise<void> {
		const ceiling = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
		return new Promise((resolve) => {
			const timer = setTimeout(resolve, 50 + Math.random() * ceiling);
			this.#wakeRetry = () => {
				clearTimeout(timer);
				resolve();
			};
		});
	}
}
