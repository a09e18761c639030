import { type RawBuilder, sql } from "kysely";
import type { PoolClient } from "pg";
import { Outcome, Severity } from "../gen/audit/v1/event_pb.ts";
import { compiler } from "./compiler.ts";
import { columnFilter, timestamp, type Window } from "./conditions.ts";
import type { Search } from "./filter.ts";
import { FILTERS } from "./filter-table.ts";

/** An index that has a tenant's events by value, each value's in the order of time. */
interface List {
	readonly column: "actor_id" | "resource_id" | "shape" | "outcome" | "severity";
	readonly type: "text" | "integer" | "bigint";
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
	readonly hashed?: { readonly field: "request_id" | "trace_id" | "actor_email"; readonly values: readonly string[] };
	readonly linked?: { readonly actors: readonly string[]; readonly resources: readonly string[] };
}

/** Without beginnings, they are looked up. */
const EXACTLY = { ...FILTERS.actions, kind: "texts" } as const;

/** What comes in more shapes is not rare. */
const MOST_SHAPES = 200;

/**
 * Which shapes of events can match in a window.
 *
 * @returns undefined if that is not known, or if they are many; none: there is nothing to be found
 */
export async function shapesIn(client: PoolClient, search: Search, window: Window): Promise<string[] | undefined> {
	const { actions, categories, sources, actorTypes, resourceType } = search;
	const given = [
		actions && columnFilter(actions.some((name) => name.endsWith("*")) ? FILTERS.actions : EXACTLY, actions),
		categories && columnFilter(FILTERS.categories, categories),
		sources && columnFilter(FILTERS.sources, sources),
		actorTypes && columnFilter(FILTERS.actorTypes, actorTypes),
	].filter((condition) => condition !== undefined);
	if (given.length === 0 && resourceType === undefined) return undefined;
	const inMonth = sql`tenant_id = ${search.tenantId} AND month = date_trunc('month', ${timestamp(window.from)} AT TIME ZONE 'UTC')::date`;
	const shapes = (...conditions: RawBuilder<unknown>[]) => sql`
		SELECT shape::text AS shape FROM audit.vocabulary WHERE ${sql.join([inMonth, ...conditions, ...given], sql` AND `)}`;
	const typed =
		resourceType === undefined
			? [shapes()]
			: [shapes(sql`resource_type = ${resourceType}`), shapes(sql`related_type = ${resourceType}`)];
	const query = sql<{ shape: string }>`
		SELECT NULL AS shape FROM audit.vocabulary WHERE ${inMonth} AND action = '*'
		UNION ${sql.join(typed, sql` UNION `)} LIMIT ${MOST_SHAPES + 1}`.compile(compiler);
	const { rows } = await client.query<{ shape: string | null }>(query.sql, [...query.parameters]);
	const found = rows.map(({ shape }) => shape).filter((shape) => shape !== null);
	return found.length < rows.length || found.length > MOST_SHAPES ? undefined : found;
}

/** Of each filter for which there is one; none: the events have to be gone through. */
export function sourcesOf(search: Search, shapes: readonly string[] | undefined): Source[] {
	const {
		actorIds,
		actorOrOnBehalfOfIds: eitherIds,
		touchingIds,
		actorEmails,
		resourceId,
		requestId,
		traceId,
	} = search;
	const { outcomes, severities } = search;
	const sources: (Source | false | undefined)[] = [
		requestId !== undefined && { lists: [], hashed: { field: "request_id", values: [requestId] } },
		traceId !== undefined && { lists: [], hashed: { field: "trace_id", values: [traceId] } },
		resourceId !== undefined && {
			lists: [{ column: "resource_id", type: "text", values: [resourceId] }],
			linked: { actors: [], resources: [resourceId] },
		},
		actorIds && { lists: [{ column: "actor_id", type: "text", values: actorIds }] },
		eitherIds && {
			lists: [{ column: "actor_id", type: "text", values: eitherIds }],
			linked: { actors: eitherIds, resources: [] },
		},
		touchingIds && {
			lists: [
				{ column: "actor_id", type: "text", values: touchingIds },
				{ column: "resource_id", type: "text", values: touchingIds },
			],
			linked: { actors: touchingIds, resources: touchingIds },
		},
		actorEmails && { lists: [], hashed: { field: "actor_email", values: actorEmails } },
		outcomes &&
			!outcomes.includes(Outcome.SUCCESS) && {
				lists: [{ column: "outcome", type: "integer", values: outcomes, guard: sql`outcome <> 1` }],
			},
		severities &&
			!severities.includes(Severity.INFO) && {
				lists: [{ column: "severity", type: "integer", values: severities, guard: sql`severity <> 2` }],
			},
		shapes && { lists: [{ column: "shape", type: "bigint", values: shapes }] },
	];
	return sources.filter((source): source is Source => Boolean(source));
}
