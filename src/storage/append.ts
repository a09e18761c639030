import type { KeyObject } from "node:crypto";
import pg from "pg";
import type { Logger } from "../logger.ts";
import { appended, type Batch, type ChainHead, formBatch, writeManifest } from "./batch.ts";
import type { Database } from "./db.ts";
import { type DeadLetter, insertDeadLetters, type Origin, type Refusal } from "./dead-letters.ts";
import { findStored, insertCarefully, isDataError, isMissingPartition, type Outcome } from "./insert.ts";
import type { Partitions } from "./partitions.ts";
import type { EventRow } from "./row.ts";
import { storeRows } from "./store-rows.ts";
import type { Tenants } from "./tenants.ts";
import { asRejection, CommitUnknown, writeTransaction } from "./transaction.ts";

/** The events of one call, or of one flush of messages: stored in one transaction or not at all. */
export interface Write {
	readonly rows: readonly EventRow[];
	/** Any row that cannot be stored keeps all of them out. */
	readonly atomic: boolean;
	/** For rows that came as messages, where each came from: one that cannot be stored becomes a dead letter. */
	readonly origins?: readonly Origin[];
	/** Messages refused before: stored in the same transaction. */
	readonly deadLetters?: readonly DeadLetter[];
}

export interface Appended {
	/** One per row, in order. */
	readonly outcomes: readonly Outcome[];
	/** All dead letters that are now stored. */
	readonly deadLetters: readonly DeadLetter[];
	/** Those of them that were not stored before. */
	readonly newDeadLetters: readonly DeadLetter[];
}

export interface AppenderOptions {
	readonly db: Database;
	readonly tenants: Tenants;
	readonly partitions: Partitions;
	readonly manifestKey: KeyObject;
	readonly logger: Logger;
	/** Told of every committed batch: a hint, never waited for. */
	readonly onAppended: (head: ChainHead) => void;
}

/**
 * Commits events. The common case is one transaction for all writes given: COPY, manifest, COMMIT. The writes COPY
 * stumbles over (a row stored before, a row PostgreSQL refuses) are taken out and stored by the careful path; the others
 * commit by COPY. When the reply to COMMIT is lost, the manifest tells what happened.
 */
export class Appender {
	readonly #options: AppenderOptions;

	constructor(options: AppenderOptions) {
		this.#options = options;
	}

	/** @returns what became of each write, in order; a rejected one has an AuditError `unavailable`. */
	async append(writes: readonly Write[]): Promise<PromiseSettledResult<Appended>[]> {
		const settled: Settled = new Map();
		const careful: Write[] = [];
		for (let group = writes; group.length > 0; ) {
			const culprits = await settling(settled, group, () => this.#copyAll(group, settled));
			careful.push(...culprits);
			group = group.filter((write) => !settled.has(write) && !culprits.includes(write));
		}
		// Retries come in crowds: one transaction for all of them, but for those that stand or fall as a whole.
		const together = careful.filter((write) => !write.atomic);
		const groups = [
			...(together.length > 0 ? [together] : []),
			...careful.filter((write) => write.atomic).map((w) => [w]),
		];
		for (const group of groups) await settling(settled, group, () => this.#storeCarefully(group, settled));
		return writes.map((write) => settled.get(write) as PromiseSettledResult<Appended>);
	}

	/** Stores all writes by COPY and settles them, or names those that have to be taken out. */
	async #copyAll(writes: readonly Write[], settled: Settled): Promise<readonly Write[]> {
		const rows = writes.flatMap((write) => write.rows);
		const letters = writes.flatMap((write) => write.deadLetters ?? []);
		await this.#options.partitions.ensureFor(rows);
		const batch = this.#form(rows);
		let head: ChainHead | undefined;
		let newLetters: ReadonlySet<DeadLetter> = new Set();
		try {
			head = await writeTransaction(this.#options.db, async (client) => {
				if (rows.length > 0) await storeRows(this.#options.db, client, batch.placed);
				newLetters = await insertDeadLetters(client, letters);
				return rows.length > 0 ? await writeManifest(client, batch, this.#options.manifestKey) : undefined;
			});
		} catch (error) {
			if (error instanceof CommitUnknown) {
				head = await this.#findCommitted(batch, error);
				if (!head) return writes;
			} else if (isMissingPartition(error)) {
				// Somebody dropped a partition that was known. Making it again is idempotent; then it is the careful path's turn.
				this.#options.partitions.forget();
				return writes;
			} else if (isUniqueViolation(error)) {
				return await this.#takenWrites(error, batch, writes);
			} else if (isDataError(error)) {
				return culpritsOf(error, batch, writes);
			} else throw error;
		}
		if (head) this.#options.onAppended(head);
		for (const write of writes) {
			const outcomes = write.rows.map((row): Outcome => ({ status: "stored", event: appended(row, batch.id) }));
			const deadLetters = write.deadLetters ?? [];
			const newDeadLetters = deadLetters.filter((letter) => newLetters.has(letter));
			settled.set(write, { status: "fulfilled", value: { outcomes, deadLetters, newDeadLetters } });
		}
		return [];
	}

	/** Stores writes that may hold duplicates, conflicts or rows PostgreSQL refuses. Safe to run again and again. */
	async #storeCarefully(writes: readonly Write[], settled: Settled): Promise<readonly Write[]> {
		const rows = writes.flatMap((write) => write.rows);
		await this.#options.partitions.ensureFor(rows);
		let batch: Batch = this.#form([]);
		let results: Appended[] = [];
		let head: ChainHead | undefined;
		try {
			head = await writeTransaction(this.#options.db, async (client) => {
				const inserted = await insertCarefully(client, rows, (chosen) => this.#form(chosen));
				batch = inserted.batch;
				results = resultsOf(writes, inserted.outcomes);
				this.#tellRefused(inserted.outcomes);
				const refused = inserted.outcomes.some(isRefusal);
				if (refused && writes.some((write) => write.atomic)) throw new Refused();
				const letters = results.flatMap((result) => result.deadLetters);
				const newLetters = await insertDeadLetters(client, letters);
				results = results.map((result) => {
					const newDeadLetters = result.deadLetters.filter((letter) => newLetters.has(letter));
					return { ...result, newDeadLetters };
				});
				return batch.placed.length > 0 ? await writeManifest(client, batch, this.#options.manifestKey) : undefined;
			});
		} catch (error) {
			if (error instanceof CommitUnknown) {
				head = await this.#findCommitted(batch, error);
				// With nothing inserted there was no manifest to find; then a retry costs nothing either.
				if (!head) throw error;
			} else if (!(error instanceof Refused)) throw error;
		}
		if (head) this.#options.onAppended(head);
		writes.forEach((write, i) => settled.set(write, { status: "fulfilled", value: results[i] as Appended }));
		return [];
	}

	/**
	 * Finds out whether a transaction whose COMMIT got no reply took effect. If not, its server process is ended, so that
	 * it cannot commit later while the same rows are stored again; should it win the race all the same, the careful path
	 * finds its rows.
	 */
	async #findCommitted(batch: Batch, lost: CommitUnknown): Promise<ChainHead | undefined> {
		const { writer } = this.#options.db;
		this.#options.logger.warn({ batch: batch.id.toString() }, "the reply to COMMIT was lost; looking for the manifest");
		try {
			const found = await this.#manifestOf(batch);
			if (found) return found;
			await writer.query(
				`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				 WHERE pid = $1 AND usename = current_user AND application_name = 'auditlog'`,
				[lost.backendPid],
			);
			return await this.#manifestOf(batch);
		} catch (error) {
			// Not even that can be found out: the caller has to know that the outcome is unknown.
			throw new CommitUnknown(lost.backendPid, error);
		}
	}

	async #manifestOf(batch: Batch): Promise<ChainHead | undefined> {
		const { rows } = await this.#options.db.writer.query<{ batch_no: string; chain: Buffer }>(
			"SELECT batch_no, chain FROM audit.manifests WHERE batch_id = $1",
			[batch.id],
		);
		const [row] = rows;
		return row && { batchNo: BigInt(row.batch_no), batchId: batch.id, chain: row.chain, events: batch.placed.length };
	}

	/** All writes with a row that is stored already: COPY names but the first of them. */
	async #takenWrites(error: pg.DatabaseError, batch: Batch, writes: readonly Write[]): Promise<readonly Write[]> {
		const client = await this.#options.db.writer.connect();
		try {
			const stored = await findStored(
				client,
				writes.flatMap((write) => write.rows),
			);
			const taken = writes.filter((write) => write.rows.some((row) => stored.has(row)));
			return taken.length > 0 ? taken : culpritsOf(error, batch, writes);
		} finally {
			client.release();
		}
	}

	/** Admission should have refused what the database refuses: somebody has to look at that. */
	#tellRefused(outcomes: readonly Outcome[]): void {
		for (const outcome of outcomes) {
			if (outcome.status !== "refused") continue;
			this.#options.logger.error({ sqlState: outcome.sqlState }, "the database refused an event that was admitted");
		}
	}

	#form(rows: readonly EventRow[]): Batch {
		return formBatch(rows, (row) => this.#options.tenants.slotOf(row.event.tenantId));
	}
}

type Settled = Map<Write, PromiseSettledResult<Appended>>;

/** Runs one step for a group of writes; if it fails, all of them are settled with the reason. */
async function settling(
	settled: Settled,
	group: readonly Write[],
	step: () => Promise<readonly Write[]>,
): Promise<readonly Write[]> {
	try {
		return await step();
	} catch (error) {
		const reason = asRejection(error);
		for (const write of group) settled.set(write, { status: "rejected", reason });
		return [];
	}
}

/** The outcomes of all rows, write by write, and the dead letters that follow from them. */
function resultsOf(writes: readonly Write[], all: readonly Outcome[]): Appended[] {
	let from = 0;
	return writes.map((write) => {
		const outcomes = all.slice(from, from + write.rows.length);
		from += write.rows.length;
		return { outcomes, deadLetters: lettersOf(write, outcomes), newDeadLetters: [] };
	});
}

/** Undoes an atomic write that has a row which cannot be stored. */
class Refused extends Error {}

function isRefusal(outcome: Outcome): boolean {
	return outcome.status === "conflict" || outcome.status === "refused";
}

/** The write whose row COPY stopped at, by the line number in the error; all of them if there is none. */
function culpritsOf(error: pg.DatabaseError, batch: Batch, writes: readonly Write[]): readonly Write[] {
	const line = /COPY events\w*, line (\d+)/.exec(error.where ?? "")?.[1];
	const placed = line === undefined ? undefined : batch.placed[Number(line) - 1];
	const culprit = writes.find((write) => placed && write.rows.includes(placed.row));
	return culprit ? [culprit] : writes;
}

/** The write's own dead letters and those of its rows that could not be stored. */
function lettersOf(write: Write, outcomes: readonly Outcome[]): DeadLetter[] {
	const letters = [...(write.deadLetters ?? [])];
	outcomes.forEach((outcome, i) => {
		const origin = write.origins?.[i];
		if (origin && isRefusal(outcome)) letters.push({ ...origin, ...refusalOf(outcome) });
	});
	return letters;
}

/** Why a row was not stored, in words. */
export function refusalOf(outcome: Outcome): Refusal {
	if (outcome.status === "conflict") {
		return {
			reason: "ID_REUSED",
			message: "an event with this tenant, time and id is stored with different content",
			violations: [],
		};
	}
	return {
		reason: "STORAGE_REFUSED",
		message: "the database refused the event",
		violations: [],
	};
}

function isUniqueViolation(error: unknown): error is pg.DatabaseError {
	return error instanceof pg.DatabaseError && error.code === "23505";
}
