import { AuditError, type Violation } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import { elementPath, pathWithin } from "../event/field-path.ts";
import { LIMITS } from "../event/limits.ts";
import { refusalOf } from "../storage/append.ts";
import { asUnavailable, type Database, type Scope } from "../storage/db.ts";
import type { LetterKey, Refusal } from "../storage/dead-letters.ts";
import { findStored, type Outcome } from "../storage/insert.ts";
import type { LetterClerk } from "../storage/letter-notice.ts";
import { findLetter, findMissing, type RedrivenEvent, type StoredLetter } from "../storage/read-letters.ts";
import type { EventRow } from "../storage/row.ts";
import type { LetterSettler, Settled } from "../storage/settle-letter.ts";
import type { Ingest } from "./ingest.ts";
import { decodeLetter } from "./nats-message.ts";

/** Who deals with dead letters. */
export interface Clerk extends LetterClerk {
	/** The letters it may see. */
	readonly scope: Scope;
	readonly mayWrite: (tenantId: TenantId) => boolean;
}

/** What redriving a letter did, or in a dry run would do. */
export type Redriven =
	| { readonly outcome: "would_be_stored" | "stored" | "duplicate"; readonly events: readonly RedrivenEvent[] }
	| { readonly outcome: "refused"; readonly refusal: Refusal };

/** What discarding a letter did: what it is now, and whether that is new. */
export interface Discarded {
	readonly state: "REDRIVEN" | "DISCARDED";
	readonly changed: boolean;
}

export interface RedriverOptions {
	readonly db: Database;
	readonly ingest: Pick<Ingest, "prepareMessages">;
	readonly settler: Pick<LetterSettler, "redrive" | "discard">;
}

/**
 * Deals with dead letters for people. A letter is redriven by the way its message came: the same bytes, decoding, admission
 * and identity, so whether the event comes by this way, by redelivery or by both, it is stored once.
 */
export class Redriver {
	readonly #options: RedriverOptions;

	constructor(options: RedriverOptions) {
		this.#options = options;
	}

	/**
	 * Redrives each letter in a transaction of its own, in order.
	 *
	 * @throws AuditError not_found, before anything is done, if one of them is none of the clerk's letters; unavailable: some
	 * may have been redriven
	 */
	async redrive(keys: readonly LetterKey[], clerk: Clerk, { dryRun }: { dryRun: boolean }): Promise<Redriven[]> {
		return await this.#forEach(keys, clerk, async (letter) => {
			if (letter.action) return alreadySettled(letter.action);
			const { mayWrite } = clerk;
			const prepared = await this.#options.ingest.prepareMessages(decodeLetter(letter), { mayWrite, dryRun });
			const refusals = new Map(prepared.flatMap(({ refusal }, i) => (refusal ? [[i, refusal] as const] : [])));
			if (refusals.size > 0) return refusedFor(refusals, prepared.length);
			const rows = prepared.flatMap(({ row }) => (row ? [row] : []));
			if (dryRun) return await this.#foretell(rows);
			const settled = await this.#options.settler.redrive(letter, clerk, rows);
			return settled.state === "OPEN" ? refusedFor(settled.refusals, rows.length) : redrivenAs(settled);
		});
	}

	/** Discards each letter in a transaction of its own, in order. @throws as `redrive` */
	async discard(keys: readonly LetterKey[], clerk: Clerk, reason: string): Promise<Discarded[]> {
		return await this.#forEach(keys, clerk, async (letter) => {
			if (letter.action) return { state: letter.action.state, changed: false };
			const settled = await this.#options.settler.discard(letter, clerk, reason);
			if (settled.state === "OPEN") throw new Error("a discarded letter has no rows that could be refused");
			return { state: settled.state, changed: settled.changed };
		});
	}

	/** One letter at a time is in memory: a body may have a megabyte. */
	async #forEach<T>(
		keys: readonly LetterKey[],
		{ scope }: Clerk,
		deal: (letter: StoredLetter) => Promise<T>,
	): Promise<T[]> {
		const missing = keys.length > 0 ? await findMissing(this.#options.db, scope, keys) : [];
		if (missing.length > 0) throw lettersNotFound(missing);
		const results: T[] = [];
		for (const key of keys) {
			const letter = await findLetter(this.#options.db, scope, key);
			if (!letter) throw lettersNotFound([keys.indexOf(key)]);
			results.push(await deal(letter));
		}
		return results;
	}

	/** What storing would do, found by looking only. */
	async #foretell(rows: readonly EventRow[]): Promise<Redriven> {
		const stored = await this.#findStored(rows);
		const refusals = new Map<number, Refusal>();
		const events = rows.map((row, i): RedrivenEvent => {
			const outcome = stored.get(row);
			if (outcome?.status === "conflict") refusals.set(i, refusalOf(outcome));
			const { tenantId, id, occurredAt } = row.event;
			return { tenantId, eventId: id, occurredAt, duplicate: outcome?.status === "duplicate" };
		});
		if (refusals.size > 0) return refusedFor(refusals, rows.length);
		return { outcome: events.every(({ duplicate }) => duplicate) ? "duplicate" : "would_be_stored", events };
	}

	async #findStored(rows: readonly EventRow[]): Promise<Map<EventRow, Outcome>> {
		try {
			const client = await this.#options.db.writer.connect();
			let failed = true;
			try {
				const stored = await findStored(client, rows);
				failed = false;
				return stored;
			} finally {
				client.release(failed);
			}
		} catch (error) {
			throw asUnavailable(error);
		}
	}
}

function redrivenAs(settled: Exclude<Settled, { state: "OPEN" }>): Redriven {
	if (!settled.changed) return alreadySettled(settled);
	const { events } = settled;
	return { outcome: events.every(({ duplicate }) => duplicate) ? "duplicate" : "stored", events };
}

function alreadySettled({ state, events }: Pick<Exclude<Settled, { state: "OPEN" }>, "state" | "events">): Redriven {
	if (state === "DISCARDED") return { outcome: "refused", refusal: DISCARDED };
	return { outcome: "duplicate", events: events.map((event) => ({ ...event, duplicate: true })) };
}

const DISCARDED: Refusal = {
	reason: "DEAD_LETTER_DISCARDED",
	message: "the letter was discarded",
	violations: [],
};

/** A letter's refusal: its one event's; of a whole batch the first one's words and all violations, each with its place. */
function refusedFor(refusals: ReadonlyMap<number, Refusal>, events: number): Redriven {
	const [[place, first] = [0, DISCARDED]] = refusals;
	if (events === 1) return { outcome: "refused", refusal: first };
	const violations = [...refusals].flatMap(([i, { violations, message }]): Violation[] => {
		const at = elementPath("events", i);
		if (violations.length === 0) return [{ field: at, message }];
		return violations.map((violation) => ({ field: pathWithin(at, violation.field), message: violation.message }));
	});
	const message = `${elementPath("events", place)}: ${first.message}`;
	return {
		outcome: "refused",
		refusal: { reason: first.reason, message, violations: violations.slice(0, LIMITS.violations) },
	};
}

function lettersNotFound(places: readonly number[]): AuditError {
	const message = "no such dead letter for this key";
	const violations = places.map((i) => ({ field: elementPath("ids", i), message }));
	return new AuditError("not_found", message, { reason: "DEAD_LETTER_NOT_FOUND", violations });
}
