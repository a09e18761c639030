import type { PoolClient } from "pg";
import type { Micros } from "../event/event.ts";
import { microsOfColumn, microsSql } from "./stored-row.ts";

/** A point of the log, in the order of commits: all batches up to this one. */
export interface Point {
	readonly batchNo: bigint;
	readonly committedAt: Micros;
	/** The link of the manifest chain there. */
	readonly chain: Buffer;
}

/** The newest point, inside a transaction of a reader's; undefined if nothing was ever committed. */
export async function newestPoint(client: PoolClient): Promise<Point | undefined> {
	const { rows } = await client.query<{ batch_no: string; committed_us: string; chain: Buffer }>(
		`SELECT batch_no, ${microsSql("committed_at")} AS committed_us, chain FROM audit.newest_batch()`,
	);
	return rows[0] && pointOf(rows[0]);
}

function pointOf(row: { batch_no: string; committed_us: string; chain: Buffer }): Point {
	return { batchNo: BigInt(row.batch_no), committedAt: microsOfColumn(row.committed_us), chain: row.chain };
}

/** How many batches are remembered. */
const KEPT = 10_000;

/**
 * Tells what came after a point. Batch numbers are dense in the order of commits: what is seen at all and is not later was
 * seen, or could have been, when the point was taken.
 */
export class Later {
	readonly #point: bigint;
	/** By batch: whether it is later. Oldest first. */
	readonly #known = new Map<string, boolean>();

	constructor(batchNo: bigint) {
		this.#point = batchNo;
	}

	/** Those of the rows that are not later, asked in the transaction that has read them. */
	async without<Row extends { readonly batch_id: string }>(client: PoolClient, rows: readonly Row[]): Promise<Row[]> {
		const unknown = [...new Set(rows.map((row) => row.batch_id))].filter((id) => !this.#known.has(id));
		if (unknown.length > 0) {
			const { rows: found } = await client.query<{ batch_id: string }>(
				"SELECT audit.batches_after($1, $2) AS batch_id",
				[String(this.#point), unknown],
			);
			const later = new Set(found.map((row) => row.batch_id));
			for (const id of unknown) this.#known.set(id, later.has(id));
		}
		const kept = rows.filter((row) => this.#known.get(row.batch_id) === false);
		for (const id of this.#known.keys()) {
			if (this.#known.size <= KEPT) break;
			this.#known.delete(id);
		}
		return kept;
	}
}
