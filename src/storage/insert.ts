import pg from "pg";
import type { AppendedEvent, EventId, Micros, TenantId } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { appended, type Batch } from "./batch.ts";
import { COPY_COLUMNS, type PlacedRow, textsOf } from "./copy.ts";
import type { EventRow } from "./row.ts";
import { microsSql } from "./stored-row.ts";

/** What became of one row. */
export type Outcome =
	| { readonly status: "stored" | "duplicate"; readonly event: AppendedEvent }
	/** The key is taken by different content. */
	| { readonly status: "conflict" }
	/** PostgreSQL refuses the row for what it holds: admission should have. */
	| { readonly status: "refused"; readonly sqlState: string };

/**
 * The path for batches that may hold rows already stored, rows that contradict stored ones, or rows the database
 * refuses: slower than COPY, and it tells them apart one by one. Runs inside the caller's transaction.
 *
 * @param form places the rows that are to be stored in a batch
 * @returns the outcome per row, and the batch of those that were inserted
 */
export async function insertCarefully(
	client: pg.PoolClient,
	rows: readonly EventRow[],
	form: (rows: readonly EventRow[]) => Batch,
): Promise<{ outcomes: Outcome[]; batch: Batch }> {
	const outcomes = new Map<EventRow, Outcome>();
	const firsts = new Map<string, EventRow>();
	for (const row of rows) if (!firsts.has(keyOf(row.event))) firsts.set(keyOf(row.event), row);

	let candidates = [...firsts.values()];
	let batch = form([]);
	for (;;) {
		for (const [row, outcome] of await findStored(client, candidates)) outcomes.set(row, outcome);
		candidates = candidates.filter((row) => !outcomes.has(row));
		batch = form(candidates);
		if (candidates.length === 0) break;
		await client.query("SAVEPOINT careful");
		try {
			if ((await insertRows(client, batch.placed, { ifNew: true })) === candidates.length) break;
			// Another transaction has stored some in the meantime; the next look finds them.
			await client.query("ROLLBACK TO SAVEPOINT careful");
		} catch (error) {
			if (!isDataError(error)) throw error;
			await client.query("ROLLBACK TO SAVEPOINT careful");
			const refused = await findRefused(client, candidates, form);
			// Refused together and not one by one: nothing here could make progress.
			if (refused.length === 0) throw error;
			for (const [row, outcome] of refused) outcomes.set(row, outcome);
		}
	}
	for (const row of candidates) outcomes.set(row, { status: "stored", event: appended(row, batch.id) });
	// The second and further rows under one key of this very batch: what they repeat or contradict is stored by now.
	const repeated = rows.filter((row) => !outcomes.has(row));
	for (const [row, outcome] of await findStored(client, repeated)) outcomes.set(row, outcome);
	for (const row of repeated) {
		const first = firsts.get(keyOf(row.event)) as EventRow;
		if (!outcomes.has(row)) outcomes.set(row, outcomes.get(first) as Outcome);
	}
	return { outcomes: rows.map((row) => outcomes.get(row) as Outcome), batch };
}

interface StoredKey {
	tenant_id: TenantId;
	occurred_us: string;
	id: EventId;
	recorded_us: string;
	batch_id: string;
	leaf_hash: Buffer;
	content_mac: Buffer | null;
}

/** Which of the rows are stored already, and whether with the same content. */
export async function findStored(client: pg.PoolClient, rows: readonly EventRow[]): Promise<Map<EventRow, Outcome>> {
	if (rows.length === 0) return new Map();
	const { rows: found } = await client.query<StoredKey>(
		`SELECT e.tenant_id, e.id, e.batch_id, e.leaf_hash, e.content_mac,
		        ${microsSql("e.occurred_at")} AS occurred_us, ${microsSql("e.recorded_at")} AS recorded_us
		 FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) AS k (tenant_id, occurred_at, id)
		 JOIN audit.events e ON e.tenant_id = k.tenant_id AND e.occurred_at = k.occurred_at AND e.id = k.id`,
		[
			rows.map(({ event }) => event.tenantId),
			rows.map(({ event }) => rfc3339(event.occurredAt)),
			rows.map(({ event }) => event.id),
		],
	);
	const byKey = new Map(
		found.map((key) => [keyOf({ tenantId: key.tenant_id, occurredAt: BigInt(key.occurred_us), id: key.id }), key]),
	);
	const outcomes = new Map<EventRow, Outcome>();
	for (const row of rows) {
		const stored = byKey.get(keyOf(row.event));
		if (stored) outcomes.set(row, compare(row, stored));
	}
	return outcomes;
}

function compare(row: EventRow, stored: StoredKey): Outcome {
	// Once anything of the stored event was erased, its MAC is gone and no retry can be told from a reuse.
	if (!stored.content_mac?.equals(row.contentMac)) return { status: "conflict" };
	const { tenantId, id, occurredAt } = row.event;
	const recordedAt = BigInt(stored.recorded_us) as Micros;
	const batchId = BigInt(stored.batch_id);
	return { status: "duplicate", event: { tenantId, id, occurredAt, recordedAt, batchId, leafHash: stored.leaf_hash } };
}

const NAMES = Object.keys(COPY_COLUMNS);
const INSERT_SQL = `INSERT INTO audit.events (${NAMES.join(", ")})
SELECT * FROM unnest(${Object.values(COPY_COLUMNS)
	.map((type, i) => `$${i + 1}::${type}[]`)
	.join(", ")})`;
const INSERT_IF_NEW_SQL = `${INSERT_SQL} ON CONFLICT (tenant_id, occurred_at, id) DO NOTHING`;

/**
 * @param options.ifNew leaves out rows whose keys are taken; else one such row is an error
 * @returns how many were inserted
 */
export async function insertRows(
	client: pg.PoolClient,
	rows: readonly PlacedRow[],
	{ ifNew }: { ifNew: boolean },
): Promise<number> {
	const texts = rows.map(textsOf);
	const result = await client.query(
		ifNew ? INSERT_IF_NEW_SQL : INSERT_SQL,
		NAMES.map((_, column) => texts.map((row) => row[column])),
	);
	return result.rowCount ?? 0;
}

/** The rows PostgreSQL refuses, found by halving: about 2 log2(n) statements for each. */
async function findRefused(
	client: pg.PoolClient,
	rows: readonly EventRow[],
	form: (rows: readonly EventRow[]) => Batch,
): Promise<[EventRow, Outcome][]> {
	await client.query("SAVEPOINT half");
	try {
		await insertRows(client, form(rows).placed, { ifNew: true });
		await client.query("ROLLBACK TO SAVEPOINT half");
		return [];
	} catch (error) {
		if (!isDataError(error)) throw error;
		await client.query("ROLLBACK TO SAVEPOINT half");
		const [row] = rows;
		if (row && rows.length === 1) return [[row, { status: "refused", sqlState: error.code ?? "" }]];
	}
	const middle = rows.length >> 1;
	const left = await findRefused(client, rows.slice(0, middle), form);
	return [...left, ...(await findRefused(client, rows.slice(middle), form))];
}

/** An error about what a row holds, not about the state of the server: trying again cannot help. */
export function isDataError(error: unknown): error is pg.DatabaseError {
	if (!(error instanceof pg.DatabaseError) || isMissingPartition(error)) return false;
	return /^(22|54|23502|23514)/.test(error.code ?? "");
}

/** PostgreSQL reports a missing partition as a check violation. */
export function isMissingPartition(error: unknown): boolean {
	return error instanceof pg.DatabaseError && error.code === "23514" && error.routine === "ExecFindPartition";
}

function keyOf(key: { tenantId: string; occurredAt: bigint; id: string }): string {
	return `${key.occurredAt}/${key.id}/${key.tenantId}`;
}
