import type { PoolClient } from "pg";
import { tenantNotFound } from "../errors.ts";
import type { Micros } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { microsOfColumn, microsSql } from "../storage/stored-row.ts";
import type { Window } from "./conditions.ts";
import type { Search } from "./filter.ts";

/**
 * From the first to the last event the tenant has in these windows, whatever else is searched for. By the primary key, in
 * as many looks as there are windows without an event, at either end.
 *
 * @param windows the newest first
 * @returns undefined if there is none
 */
export async function extentOf(
	client: PoolClient,
	{ tenantId }: Search,
	windows: readonly Window[],
): Promise<Window | undefined> {
	const edge = async (some: readonly Window[], direction: "ASC" | "DESC"): Promise<Micros | undefined> => {
		for (const { from, to } of some) {
			const { rows } = await client.query<{ at_us: string }>(
				`SELECT ${microsSql("occurred_at")} AS at_us FROM audit.events
				WHERE tenant_id = $1 AND occurred_at >= $2 AND occurred_at < $3
				ORDER BY occurred_at ${direction}, id ${direction} LIMIT 1`,
				[tenantId, rfc3339(from), rfc3339(to)],
			);
			if (rows[0]) return microsOfColumn(rows[0].at_us);
		}
		return undefined;
	};
	const last = await edge(windows, "DESC");
	if (last === undefined) return undefined;
	const first = await edge(windows.toReversed(), "ASC");
	return { from: first ?? last, to: (last + 1n) as Micros };
}

/** A misspelt tenant must not look like one whose log is empty. @throws AuditError not_found */
export async function requireTenant(client: PoolClient, { tenantId }: Search): Promise<void> {
	const { rowCount } = await client.query("SELECT FROM audit.tenants WHERE id = $1", [tenantId]);
	if (rowCount === 0) throw tenantNotFound();
}
