import pg from "pg";
import { AuditError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { appended, type Batch, type ChainHead, formBatch, writeManifest } from "./batch.ts";
import { copyRows } from "./copy.ts";
import { asUnavailable, type Database } from "./db.ts";
import { type DeadLetter, insertDeadLetters, type Origin, type Refusal } from "./dead-letters.ts";
import { insertCarefully, isDataError, isMissingPartition, type Outcome } from "./insert.ts";
import type { Partitions } from "./partitions.ts";
import type { EventRow } from "./row.ts";
import type { Tenants } from "./tenants.ts";
import { CommitUnknown, NotCommitted, writeTransaction } from "./transaction.ts";

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
}

export interface AppenderOptions {
	readonly db: Database;
	readonly tenants: Tenants;
	readonly partitions: Partitions;
	readonly manifestKey: Uint8Array;
	readonly logger: Logger;
	/** Told of every committed batch: a hint, never waited for. */
	readonly onAppended: (head: ChainHead) => void;
}

/**
 * Commits events. The common case is one transaction for all writes given: COPY, manifest, COMMIT. A write that COPY
 * stumbles over (a row stored before, a row PostgreSQL refuses) is taken out and stored alone, carefully; the others
 * commit by COPY. When the reply to COMMIT is lost, the manifest tells what happened.
 */
export class Appender {
	readonly #options: AppenderOptions;

	constructor(options: AppenderOptions) {
		this.#options = options;
	}

	/** @returns what became of each write, in order; a rejected one has an AuditError `unavailable`. */
	async append(writes: readonly Write[]): Promise<PromiseSettledResult<Appended>[]> {
		const settled = new Map<Write, PromiseSettledResult<Appended>>();
		let group = writes;
		const careful: Write[] = [];
		while (group.length > 0) {
			let culprits: readonly Write[] = [];
			try {
				culprits = await this.#copyAll(group, settled);
			} catch (error) {
				const reason = rejection(error);
				for (const write of group) settled.set(write, { status: "rejected", reason });
				break;
			}
			careful.push(...culprits);
			group = group.filter((write) => !settled.has(write) && !culprits.includes(write));
		}
		for (const write of careful) settled.set(write, await settle(this.#storeCarefully(write)));
		return writes.map((write) => settled.get(write) as PromiseSettledResult<Appended>);
	}

	/** Stores all writes by COPY and settles them, or names those that have to be taken out. */
	async #copyAll(
		writes: readonly Write[],
		settled: Map<Write, PromiseSettledResult<Appended>>,
	): Promise<readonly Write[]> {
		const rows = writes.flatMap((write) => write.rows);
		const letters = writes.flatMap((write) => write.deadLetters ?? []);
		await this.#options.partitions.ensure(rows.map((row) => row.event.occurredAt));
		const batch = this.#form(rows);
		try {
			const head = await writeTransaction(this.#options.db, async (client) => {
				if (rows.length > 0) await copyRows(client, batch.placed);
				await insertDeadLetters(client, letters);
				return rows.length > 0 ? await writeManifest(client, batch, this.#options.manifestKey) : undefined;
			});
			if (head) this.#options.onAppended(head);
		} catch (error) {
			if (error instanceof CommitUnknown) {
				if (!(await this.#wasCommitted(batch, error))) return writes;
			} else if (isMissingPartition(error)) {
				// Somebody dropped a partition that was known. Making it again is idempotent; then it is the careful path's turn.
				this.#options.partitions.forget();
				return writes;
			} else if (isUniqueViolation(error) || isDataError(error)) {
				return culpritsOf(error, batch, writes);
			} else throw error;
		}
		for (const write of writes) {
			const outcomes = write.rows.map((row): Outcome => ({ status: "stored", event: appended(row, batch.id) }));
			settled.set(write, { status: "fulfilled", value: { outcomes, deadLetters: write.deadLetters ?? [] } });
		}
		return [];
	}

	/** Stores one write that may hold duplicates, conflicts or rows PostgreSQL refuses. Safe to run again and again. */
	async #storeCarefully(write: Write): Promise<Appended> {
		await this.#options.partitions.ensure(write.rows.map((row) => row.event.occurredAt));
		let batch: Batch = this.#form([]);
		let result: Appended = { outcomes: [], deadLetters: [] };
		try {
			const head = await writeTransaction(this.#options.db, async (client) => {
				const inserted = await insertCarefully(client, write.rows, (rows) => this.#form(rows));
				batch = inserted.batch;
				result = { outcomes: inserted.outcomes, deadLetters: lettersOf(write, inserted.outcomes) };
				if (write.atomic && result.outcomes.some(isRefusal)) throw new Refused();
				await insertDeadLetters(client, result.deadLetters);
				return batch.placed.length > 0 ? await writeManifest(client, batch, this.#options.manifestKey) : undefined;
			});
			if (head) this.#options.onAppended(head);
		} catch (error) {
			if (error instanceof Refused) return result;
			// With nothing inserted there is no manifest to look for; then a retry costs nothing either.
			const known =
				error instanceof CommitUnknown && batch.placed.length > 0 && (await this.#wasCommitted(batch, error));
			if (!known) throw error;
		}
		return result;
	}

	/**
	 * Finds out whether a transaction whose COMMIT got no reply took effect. If not, its server process is ended, so that
	 * it cannot commit later while the same rows are stored again; should it win the race all the same, the careful path
	 * finds its rows.
	 */
	async #wasCommitted(batch: Batch, lost: CommitUnknown): Promise<boolean> {
		const { writer } = this.#options.db;
		this.#options.logger.warn({ batch: batch.id.toString() }, "the reply to COMMIT was lost; looking for the manifest");
		const look = () => writer.query("SELECT FROM audit.manifests WHERE batch_id = $1", [batch.id]);
		if ((await look()).rowCount === 1) return true;
		await writer.query(
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			 WHERE pid = $1 AND usename = current_user AND application_name = 'auditlog'`,
			[lost.backendPid],
		);
		return (await look()).rowCount === 1;
	}

	#form(rows: readonly EventRow[]): Batch {
		return formBatch(rows, (row) => this.#options.tenants.slotOf(row.event.tenantId));
	}
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
		message: `the database refused the event (${outcome.status === "refused" ? outcome.sqlState : ""})`,
		violations: [],
	};
}

function isUniqueViolation(error: unknown): error is pg.DatabaseError {
	return error instanceof pg.DatabaseError && error.code === "23505";
}

async function settle(work: Promise<Appended>): Promise<PromiseSettledResult<Appended>> {
	try {
		return { status: "fulfilled", value: await work };
	} catch (error) {
		return { status: "rejected", reason: rejection(error) };
	}
}

/** What the waiting callers are told: whatever may help when tried again is `unavailable`. */
function rejection(error: unknown): unknown {
	if (error instanceof CommitUnknown || error instanceof NotCommitted) {
		const options = { reason: "OUTCOME_UNKNOWN", retryAfterMs: 1_000, cause: error };
		return new AuditError("unavailable", "the write may or may not have been stored; send the same id again", options);
	}
	return asUnavailable(error);
}
