import pg from "pg";
import { copyRows, type PlacedRow } from "./copy.ts";
import type { Database } from "./db.ts";
import { insertRows } from "./insert.ts";
import { NotCommitted } from "./transaction.ts";

/**
 * Stores the rows of a batch that are all expected to be new: by COPY, or where the writer is under row-level security
 * by INSERT, which PostgreSQL allows there. Throws pg's error if any row is stored already or is refused.
 */
export async function storeRows(db: Database, client: pg.PoolClient, rows: readonly PlacedRow[]): Promise<void> {
	if (!(await db.canCopy(client))) {
		await insertRows(client, rows, { ifNew: false });
		return;
	}
	try {
		await copyRows(client, rows);
	} catch (error) {
		if (!isRefusedCopy(error)) throw error;
		// Somebody took BYPASSRLS away meanwhile. The next try asks again, and inserts.
		db.forgetCanCopy();
		throw new NotCommitted("COPY is no longer allowed", { cause: error });
	}
}

/** "COPY FROM not supported with row-level security" */
function isRefusedCopy(error: unknown): boolean {
	return error instanceof pg.DatabaseError && error.code === "0A000";
}
