import type { Client } from "pg";
import { waitFor } from "./services.ts";

/**
 * Begins a change, and lets `act` do its worst while the change's transaction has everything but its manifest and COMMIT.
 *
 * @returns what came of the change; undefined if it failed
 */
export async function beforeCommit<T>(
	admin: Client,
	change: () => Promise<T>,
	act: () => Promise<void> | void,
): Promise<T | undefined> {
	await admin.query("SELECT pg_advisory_lock(7301, 0)");
	const changed = change().catch(() => undefined);
	await waitFor(
		async () => {
			const { rowCount } = await admin.query(
				`SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7301 AND objid = 0 AND NOT granted
				 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
			);
			return rowCount;
		},
		{ what: "the change's transaction" },
	);
	await act();
	await admin.query("SELECT pg_advisory_unlock(7301, 0)");
	return changed;
}
