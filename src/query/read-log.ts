import { createHash } from "node:crypto";
import type { JsonObject } from "@bufbuild/protobuf";
import type { Principal } from "../auth/principal.ts";
import { AuditError } from "../errors.ts";
import type { EventId, Micros, TenantId } from "../event/event.ts";
import { newEventId } from "../event/identity.ts";
import type { Logger } from "../logger.ts";
import type { ServiceLog, Told } from "../storage/service-log.ts";
import type { Asked } from "./asked.ts";
import { readEvent, summaryEvent, type Tally } from "./read-event.ts";

/** An answer that shows something of a tenant's log. */
export interface Read {
	readonly tenantId: TenantId;
	readonly principal: Principal;
	/** The RPC's name in the contract, and what it was spoken in. */
	readonly method: string;
	readonly protocol: string;
	/** The caller's IP address; empty if it is not known. */
	readonly address: string;
	readonly requestId: string;
	readonly asked: Asked;
	/** What was asked for by its id. */
	readonly shows?: { readonly type: string; readonly id: string };
	/** How many events, or dead letters, the answer has. */
	readonly returned: number;
	/** What else is to be told. */
	readonly told?: JsonObject;
}

/** A read of which it is not known yet how much it will show. */
export type ReadBegun = Omit<Read, "returned"> & { readonly returned?: number };

declare const recorded: unique symbol;
/** An answer that may leave: that it was given is in the log of everyone it concerns. Only `ReadLog` makes one. */
export type Recorded<T> = T & { readonly [recorded]: true };

export interface ReadLogOptions {
	readonly log: Pick<ServiceLog, "change">;
	readonly logger: Logger;
	/** Milliseconds since 1970. */
	readonly now?: () => number;
}

/** For how long reads of the same by the same are not told of one by one. */
const WINDOW_MS = 600_000;
/** A summary is there 5 minutes after the last read at the latest: this, until the next look, and the time to store it. */
const QUIET_MS = 240_000;
/** How often `tellDue` is to be called. */
export const TELL_EVERY_MS = 30_000;
/** Above it the oldest window ends early; that many summaries may wait for the database. */
const MOST_WINDOWS = 10_000;
/** Events of one transaction: a read's has 200 KiB at most. */
const MOST_AT_ONCE = 100;

/**
 * Who read which log: an `audit.read` in it, committed before the answer is given.
 *
 * Not every read has one. Who asks for the same (principal, method, filter, address) within ten minutes, as one who pages or
 * polls does, is in one window: it begins with an `audit.read` and ends with an `audit.read.summary` that has counted. Each
 * window's way: begun (its event is being stored; all its readers wait for that) → open (reads are counted in a tally) →
 * ended. A window at rest has its tally told and stays open; if there is more, that is told with another summary.
 *
 * A crash costs the tallies, never an `audit.read`. Every replica has windows of its own.
 */
export class ReadLog {
	readonly #log: ReadLogOptions["log"];
	readonly #logger: Logger;
	readonly #now: () => number;
	/** By what makes reads the same; the oldest first. */
	readonly #windows = new Map<string, Window>();
	/** Of streams that are being given. */
	readonly #open = new Set<Tally>();
	/** What summaries are still to be stored, the oldest first. */
	readonly #owed = new Set<Tally>();
	#telling: Promise<void> | undefined;
	#waiting: Waiting[] = [];
	#storing: Promise<void> | undefined;

	constructor({ log, logger, now = Date.now }: ReadLogOptions) {
		this.#log = log;
		this.#logger = logger;
		this.#now = now;
	}

	/**
	 * Gives an answer back once it is recorded that it is given.
	 *
	 * @param reads one for each tenant whose log it shows something of; tenants that do not exist have no log to record it in
	 * @throws AuditError unavailable: then nobody may see the answer
	 */
	async recorded<T>(reads: readonly Read[], answer: T): Promise<Recorded<T>> {
		await Promise.all(reads.map((read) => this.#record(read)));
		// At this point every log that is read says so: a crash costs the reader the answer, and nobody the knowledge.
		return answer as Recorded<T>;
	}

	/**
	 * Gives a stream back once it is recorded that it is given: each by an `audit.read` of its own. At its end, whatever that is, a
	 * summary says how much of it was given.
	 *
	 * @param countOf how many events were shown up to and with a message; undefined for one that does not tell
	 * @throws AuditError unavailable: then nobody may see any of it
	 */
	async recordedStream<T>(
		read: ReadBegun,
		messages: AsyncIterable<T>,
		countOf: (message: T) => number | undefined,
	): Promise<Recorded<AsyncIterable<T>>> {
		const begunAt = micros(this.#now());
		const readId = newEventId(begunAt);
		await this.#store(readEvent(read, readId, begunAt)).catch((error: unknown) => {
			throw unrecorded(error);
		});
		const { asked: _asked, told: _told, ...of } = read;
		const tally: Tally = { of, readId, reads: 1, returned: 0, firstAt: begunAt, lastAt: begunAt };
		return this.#counted(tally, messages, countOf) as AsyncIterable<T> as Recorded<AsyncIterable<T>>;
	}

	async *#counted<T>(
		tally: Tally,
		messages: AsyncIterable<T>,
		countOf: (message: T) => number | undefined,
	): AsyncGenerator<T> {
		this.#open.add(tally);
		try {
			for await (const message of messages) {
				// Before it leaves: a caller who goes away with it has it.
				tally.returned = countOf(message) ?? tally.returned;
				tally.lastAt = micros(this.#now());
				yield message;
			}
		} finally {
			// Should it fail, it is tried again with the next round, which says why.
			if (this.#open.delete(tally)) void this.#tellOf(tally).catch(() => {});
		}
	}

	/** Stores the summaries that are due. @throws AuditError unavailable: they stay due */
	async tellDue(): Promise<void> {
		const now = this.#now();
		for (const [key, window] of this.#windows) {
			if (!window.isStored) continue;
			const isOver = hasEnded(window, now);
			if (isOver || (window.tally && millis(window.tally.lastAt) <= now - QUIET_MS)) this.#owe(window);
			if (isOver) this.#windows.delete(key);
		}
		await this.#tellOwed();
	}

	/** Ends all windows and stores their summaries. What cannot be stored now is lost. */
	async close(): Promise<void> {
		await this.#storing;
		for (const window of this.#windows.values()) this.#owe(window);
		this.#windows.clear();
		for (const tally of this.#open) this.#owed.add(tally);
		this.#open.clear();
		// A round that is under way may not have seen the last ones.
		await this.#telling?.catch(() => {});
		await this.#tellOwed().catch((error: unknown) => {
			this.#logger.error({ lost: this.#owed.size, err: error }, "summaries of reads could not be stored");
		});
	}

	#record(read: Read): Promise<void> {
		const now = this.#now();
		const key = keyOf(read);
		let window = this.#windows.get(key);
		if (window && hasEnded(window, now)) {
			this.#end(key, window);
			window = undefined;
		}
		window ??= this.#begin(key, read, now);
		count(window, read, micros(now));
		return window.stored;
	}

	/** Its readers count from now on; they get their answers when its event is stored. */
	#begin(key: string, read: Read, now: number): Window {
		const { asked: _asked, returned: _returned, ...of } = read;
		const readId = newEventId(micros(now));
		const forget = () => void (this.#windows.get(key) === window && this.#windows.delete(key));
		const stored = this.#store(readEvent(read, readId, micros(now))).then(
			(isTold) => {
				window.isStored = isTold;
				// There is no such tenant: if there is one day, its log begins with it.
				if (!isTold) forget();
			},
			(error: unknown) => {
				forget();
				throw unrecorded(error);
			},
		);
		const window: Window = { of, readId, since: now, stored, isStored: false, tally: undefined };
		this.#windows.set(key, window);
		this.#makeRoom();
		return window;
	}

	#end(key: string, window: Window): void {
		this.#owe(window);
		this.#windows.delete(key);
	}

	/** Those whose event is being stored are the newest, and no more than there are calls. */
	#makeRoom(): void {
		if (this.#windows.size <= MOST_WINDOWS) return;
		for (const [key, window] of this.#windows) {
			if (!window.isStored) continue;
			this.#end(key, window);
			// Should it fail, it is tried again with the next round, which says why.
			void this.#tellOwed().catch(() => {});
			return;
		}
	}

	#owe(window: Window): void {
		if (window.tally) this.#owed.add(window.tally);
		window.tally = undefined;
		if (this.#owed.size <= MOST_WINDOWS) return;
		for (const oldest of this.#owed) {
			this.#owed.delete(oldest);
			this.#logger.error({ lost: 1 }, "summaries of reads could not be stored");
			return;
		}
	}

	#tellOf(tally: Tally): Promise<void> {
		this.#owed.add(tally);
		return this.#tellOwed();
	}

	#tellOwed(): Promise<void> {
		this.#telling ??= this.#tellAll().finally(() => {
			this.#telling = undefined;
		});
		return this.#telling;
	}

	/**
	 * A COMMIT whose reply is lost may make the same summary twice: both name the same `audit.read` and the same first time.
	 */
	async #tellAll(): Promise<void> {
		while (this.#owed.size > 0) {
			const some = [...this.#owed].slice(0, MOST_AT_ONCE);
			const tell = async (tally: Tally) => {
				await this.#store(summaryEvent(tally));
				this.#owed.delete(tally);
			};
			for (const told of await Promise.allSettled(some.map(tell))) {
				if (told.status === "rejected") throw told.reason;
			}
		}
	}

	/** Stores an event, with those that come meanwhile in one transaction. @returns whether there is such a tenant */
	#store(told: Told): Promise<boolean> {
		const { promise, resolve, reject } = Promise.withResolvers<boolean>();
		this.#waiting.push({ told, resolve, reject });
		this.#storing ??= this.#storeWaiting();
		return promise;
	}

	async #storeWaiting(): Promise<void> {
		while (this.#waiting.length > 0) await this.#storeGroup(this.#waiting.splice(0, MOST_AT_ONCE));
		// With nothing in between: who comes now begins anew.
		this.#storing = undefined;
	}

	async #storeGroup(group: readonly Waiting[]): Promise<void> {
		try {
			const known = await this.#tell(group.map(({ told }) => told));
			for (const { told, resolve } of group) resolve(known.has(told.tenantId));
		} catch (error) {
			const isAway = error instanceof AuditError && error.code === "unavailable";
			// One that cannot be stored must not turn the others' readers away.
			if (group.length > 1 && !isAway) for (const each of group) await this.#storeGroup([each]);
			else for (const { reject } of group) reject(error);
		}
	}

	/** @returns those of the tenants that there are */
	#tell(told: readonly Told[]): Promise<ReadonlySet<TenantId>> {
		const tenantIds = [...new Set(told.map(({ tenantId }) => tenantId))];
		return this.#log.change(async (client) => {
			const { rows } = await client.query<{ id: TenantId }>("SELECT id FROM audit.tenants WHERE id = ANY ($1)", [
				tenantIds,
			]);
			return { result: new Set(rows.map(({ id }) => id)), told };
		});
	}
}

interface Window {
	readonly of: Tally["of"];
	readonly readId: EventId;
	readonly since: number;
	/** Settles when its event is stored, or is not. */
	readonly stored: Promise<void>;
	isStored: boolean;
	/** What no summary has told yet. */
	tally: Tally | undefined;
}

interface Waiting {
	readonly told: Told;
	readonly resolve: (isTold: boolean) => void;
	readonly reject: (error: unknown) => void;
}

/** Filters may be long, and keys are kept: what is kept is their hash. */
function keyOf({ tenantId, principal, method, asked, address }: Read): string {
	const same = [tenantId, principal.kind, principal.id, method, asked.canonical, address];
	return createHash("sha256").update(JSON.stringify(same)).digest("base64");
}

function count(window: Window, { returned }: Read, at: Micros): void {
	window.tally ??= { of: window.of, readId: window.readId, reads: 0, returned: 0, firstAt: at, lastAt: at };
	window.tally.reads += 1;
	window.tally.returned += returned;
	window.tally.lastAt = at;
}

/** A clock that was set back ends windows as well: they must not last for as long as it was wrong. */
function hasEnded({ since, isStored }: Window, now: number): boolean {
	return isStored && (now >= since + WINDOW_MS || now < since);
}

function micros(ms: number): Micros {
	return (BigInt(ms) * 1000n) as Micros;
}

function millis(at: Micros): number {
	return Number(at / 1000n);
}

function unrecorded(cause: unknown): AuditError {
	const message = "that this was read could not be recorded, so it is not shown; try again";
	return new AuditError("unavailable", message, { reason: "READ_NOT_RECORDED", retryAfterMs: 1_000, cause });
}
