import { type RawBuilder, sql } from "kysely";
import type { PoolClient } from "pg";
import { rfc3339 } from "../event/time.ts";
import { Outcome, Severity } from "../gen/audit/v1/event_pb.ts";
import { compiler } from "./compiler.ts";
import { columnFilter, type Window } from "./conditions.ts";
import type { Search } from "./filter.ts";
import { FILTERS } from "./filter-table.ts";

/** An index that has a tenant's events by value, each value's in the order of time. */
interface List {
	readonly column: "actor_id" | "actor_email" | "resource_id" | "action" | "outcome" | "severity";
	readonly type: "text" | "integer";
	readonly values: readonly (string | number)[];
	/** What the index leaves out, in the words of its definition. */
	readonly guard?: RawBuilder<unknown>;
}

/**
 * Where the events of one filter are found without going through all others: those on any of the lists, those with the value in
 * a hash index, and those with any of the links. The last two have no order, and are of use only where there are few.
 */
export interface Source {
	readonly lists: readonly List[];
	readonly hashed?: { readonly column: "request_id" | "trace_id"; readonly value: string };
	readonly linked?: { readonly actors: readonly string[]; readonly resources: readonly string[] };
}

/** With more actions than these, a category (or source, or type) is not rare. */
const MOST_ACTIONS = 60;

/** Which actions can match in which month, as `2026-11`; undefined: that is not known. A month that is missing has nothing to be found. */
export type ActionsByMonth = ReadonlyMap<string, readonly string[] | undefined>;

/** @returns undefined if the search has none of the filters that the vocabulary knows of */
export async function actionsOf(client: PoolClient, search: Search): Promise<ActionsByMonth | undefined> {
	const { actions, categories, sources, actorTypes, resourceType } = search;
	const given = [
		actions && columnFilter(FILTERS.actions, actions),
		categories && columnFilter(FILTERS.categories, categories),
		sources && columnFilter(FILTERS.sources, sources),
		actorTypes && columnFilter(FILTERS.actorTypes, actorTypes),
		resourceType !== undefined && sql`resource_type = ${resourceType}`,
	].filter((condition) => condition !== undefined && condition !== false);
	if (given.length === 0) return undefined;
	const query = sql<{ month: string; actions: string[] }>`
		SELECT to_char(month, 'YYYY-MM') AS month, array_agg(DISTINCT action) AS actions
		FROM audit.vocabulary
		WHERE tenant_id = ${search.tenantId} AND (action = '*' OR ${sql.join(given, sql` AND `)})
		GROUP BY month`.compile(compiler);
	const { rows } = await client.query<{ month: string; actions: string[] }>(query.sql, [...query.parameters]);
	return new Map(
		rows.map(({ month, actions: found }) => [
			month,
			found.includes("*") || found.length > MOST_ACTIONS ? undefined : found,
		]),
	);
}

export function monthOf(window: Window): string {
	return rfc3339(window.from).slice(0, 7);
}

/** Of each filter for which there is one; none: the events have to be gone through. */
export function sourcesOf(search: Search, actions: readonly string[] | undefined): Source[] {
	const { actorIds, actorEmails, resourceId, requestId, traceId, outcomes, severities } = search;
	const sources: (Source | false | undefined)[] = [
		requestId !== undefined && { lists: [], hashed: { column: "request_id", value: requestId } },
		traceId !== undefined && { lists: [], hashed: { column: "trace_id", value: traceId } },
		resourceId !== undefined && {
			lists: [{ column: "resource_id", type: "text", values: [resourceId] }],
			linked: { actors: [], resources: [resourceId] },
		},
		actorIds && { lists: [{ column: "actor_id", type: "text", values: actorIds }] },
		actorEmails && {
			lists: [{ column: "actor_email", type: "text", values: actorEmails, guard: sql`actor_email IS NOT NULL` }],
		},
		outcomes &&
			!outcomes.includes(Outcome.SUCCESS) && {
				lists: [{ column: "outcome", type: "integer", values: outcomes, guard: sql`outcome <> 1` }],
			},
		severities &&
			!severities.includes(Severity.INFO) && {
				lists: [{ column: "severity", type: "integer", values: severities, guard: sql`severity <> 2` }],
			},
		actions && { lists: [{ column: "action", type: "text", values: actions }] },
	];
	return sources.filter((source): source is Source => Boolean(source));
}
