import type { KeyObject } from "node:crypto";
import type { PoolClient } from "pg";
import type { Logger } from "../logger.ts";
import { refusalOf } from "./append.ts";
import { type Batch, type ChainHead, formBatch, writeManifest } from "./batch.ts";
import type { Database } from "./db.ts";
import type { LetterKey, Refusal } from "./dead-letters.ts";
import { insertCarefully, isMissingPartition, type Outcome } from "./insert.ts";
import { discardedNotice, type LetterClerk, redrivenNotices } from "./letter-notice.ts";
import type { Partitions } from "./partitions.ts";
import {
	type LetterState,
	type RedrivenEvent,
	redrivenEvent,
	type StoredLetter,
	storedEvents,
} from "./read-letters.ts";
import type { EventRow } from "./row.ts";
import type { Tenants } from "./tenants.ts";
import { asRejection, CommitUnknown, writeTransaction } from "./transaction.ts";

export interface LetterSettlerOptions {
	readonly db: Database;
	readonly tenants: Tenants;
	readonly partitions: Partitions;
	readonly manifestKey: KeyObject;
	readonly contentMacKey: KeyObject;
	readonly logger: Logger;
	/** Told of every committed batch: a hint, never waited for. */
	readonly onAppended: (head: ChainHead) => void;
}

/** What a letter is now. */
export type Settled =
	| {
			readonly state: Exclude<LetterState, "OPEN">;
			/** Whether it became that now. */
			readonly changed: boolean;
			readonly events: readonly RedrivenEvent[];
	  }
	/** Its rows cannot be stored: nothing was done. By the place of the row. */
	| { readonly state: "OPEN"; readonly refusals: ReadonlyMap<number, Refusal> };

/** What is to be stored with the letter's new state. */
interface Settlement {
	readonly letter: LetterKey;
	readonly keyId: string;
	readonly state: Exclude<LetterState, "OPEN">;
	readonly reason: string | undefined;
	/** The events the letter becomes. */
	readonly rows: readonly EventRow[];
	/** The events that tell of it. */
	readonly notices: readonly EventRow[];
}

/**
 * Makes an end of a dead letter, in one transaction: the letter is locked, so that two who try wait for each other; its
 * events are stored, or found stored; an event tells of it; its state is recorded; manifest, COMMIT. Before COMMIT nothing
 * of it is there; after it whoever tries again finds the letter settled.
 */
export class LetterSettler {
	readonly #options: LetterSettlerOptions;

	constructor(options: LetterSettlerOptions) {
		this.#options = options;
	}

	/** @param rows the events the letter becomes, one at least: all of them are stored, or none. @throws AuditError unavailable */
	redrive(letter: StoredLetter, clerk: LetterClerk, rows: readonly EventRow[]): Promise<Settled> {
		const notices = redrivenNotices(letter, clerk, rows, this.#options.contentMacKey);
		return this.#settle({ letter, keyId: clerk.keyId, state: "REDRIVEN", reason: undefined, rows, notices });
	}

	/** A letter of no tenant, or of one that does not exist, has nobody to be told. @throws AuditError unavailable */
	async discard(letter: StoredLetter, clerk: LetterClerk, reason: string): Promise<Settled> {
		const { tenantId } = letter;
		const told = tenantId !== undefined && (await this.#options.tenants.exists(tenantId));
		const notices = told ? [discardedNotice(letter, clerk, { reason, tenantId }, this.#options.contentMacKey)] : [];
		return this.#settle({ letter, keyId: clerk.keyId, state: "DISCARDED", reason, rows: [], notices });
	}

	async #settle(settlement: Settlement): Promise<Settled> {
		let tried: Batch | undefined;
		const onTry = (batch: Batch) => {
			tried = batch;
		};
		try {
			return await this.#trySettle(settlement, tried, onTry);
		} catch (error) {
			if (error instanceof Refused) return { state: "OPEN", refusals: error.refusals };
			// A lost COMMIT reply: the letter itself tells, once whoever had it locked is gone. A partition that somebody
			// dropped is made again.
			if (isMissingPartition(error)) this.#options.partitions.forget();
			else if (!(error instanceof CommitUnknown)) throw asRejection(error);
		}
		return await this.#trySettle(settlement, tried, onTry).catch((error: unknown) => {
			if (error instanceof Refused) return { state: "OPEN" as const, refusals: error.refusals };
			throw asRejection(error);
		});
	}

	/** @param before the batch of a try whose end is not known */
	async #trySettle(
		{ letter, rows, notices, ...entry }: Settlement,
		before: Batch | undefined,
		onTry: (batch: Batch) => void,
	): Promise<Settled> {
		const { db, tenants, partitions, manifestKey } = this.#options;
		const all = [...rows, ...notices];
		await partitions.ensureFor(all);
		let head: ChainHead | undefined;
		const settled = await writeTransaction(db, async (client): Promise<Settled> => {
			const found = await lockLetter(client, letter);
			if (found.state !== "OPEN") {
				return {
					state: found.state,
					changed: before !== undefined && found.batchId === before.id,
					events: found.events,
				};
			}
			const form = (chosen: readonly EventRow[]) => formBatch(chosen, (row) => tenants.slotOf(row.event.tenantId));
			const { outcomes, batch } = await insertCarefully(client, all, form);
			this.#throwRefused(outcomes);
			onTry(batch);
			const events = rows.map((row, i) => eventOf(row, outcomes[i]));
			const batchId = batch.placed.length > 0 ? batch.id : undefined;
			await recordSettled(client, letter, { ...entry, batchId, events });
			if (batchId !== undefined) head = await writeManifest(client, batch, manifestKey);
			return { state: entry.state, changed: true, events };
		});
		if (head) this.#options.onAppended(head);
		return settled;
	}

	#throwRefused(outcomes: readonly Outcome[]): void {
		const refusals = new Map<number, Refusal>();
		outcomes.forEach((outcome, i) => {
			if (outcome.status !== "conflict" && outcome.status !== "refused") return;
			if (outcome.status === "refused") {
				this.#options.logger.error({ sqlState: outcome.sqlState }, "the database refused an event that was admitted");
			}
			refusals.set(i, refusalOf(outcome));
		});
		if (refusals.size > 0) throw new Refused(refusals);
	}
}

/** Undoes the transaction of a letter that has a row which cannot be stored. */
class Refused extends Error {
	readonly refusals: ReadonlyMap<number, Refusal>;

	constructor(refusals: ReadonlyMap<number, Refusal>) {
		super("a row of the letter cannot be stored");
		this.refusals = refusals;
	}
}

interface LockedLetter {
	readonly state: LetterState;
	readonly batchId: bigint | undefined;
	readonly events: readonly RedrivenEvent[];
}

async function lockLetter(client: PoolClient, letter: LetterKey): Promise<LockedLetter> {
	const { rows } = await client.query<{
		state: LetterState;
		batch_id: string | null;
		events: Parameters<typeof redrivenEvent>[0][];
	}>("SELECT state, batch_id, events FROM audit.lock_dead_letter($1, $2, $3)", keyOf(letter));
	const [row] = rows;
	if (!row) throw new Error("a dead letter that was there is gone");
	const batchId = row.batch_id === null ? undefined : BigInt(row.batch_id);
	return { state: row.state, batchId, events: row.events.map(redrivenEvent) };
}

async function recordSettled(
	client: PoolClient,
	letter: LetterKey,
	entry: Pick<Settlement, "state" | "keyId" | "reason"> & {
		readonly batchId: bigint | undefined;
		readonly events: readonly RedrivenEvent[];
	},
): Promise<void> {
	const { state, keyId, reason, batchId, events } = entry;
	const values = [...keyOf(letter), state, keyId, reason ?? null, batchId ?? null, storedEvents(events)];
	await client.query("SELECT audit.settle_dead_letter($1, $2, $3, $4, $5, $6, $7, $8)", values);
}

function keyOf({ streamCreated, streamSeq, position }: LetterKey): unknown[] {
	return [streamCreated, streamSeq, position];
}

function eventOf({ event }: EventRow, outcome: Outcome | undefined): RedrivenEvent {
	const { tenantId, id, occurredAt } = event;
	return { tenantId, eventId: id, occurredAt, duplicate: outcome?.status === "duplicate" };
}
