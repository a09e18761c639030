import { type RawBuilder, type SqlBool, sql } from "kysely";
import type { Micros } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { omitsReads, type Search } from "./filter.ts";
import { FILTER_NAMES, FILTERS, type Filter } from "./filter-table.ts";
import { READ_ACTIONS } from "./read-event.ts";

export type Condition = RawBuilder<SqlBool>;

/** Part of one partition: from inclusive, to exclusive. */
export interface Window {
	readonly from: Micros;
	readonly to: Micros;
}

/**
 * What makes a row of `audit.events` one of the search's, in one window. The only place that says in SQL what a filter means:
 * whoever reads events takes it.
 */
export function conditionsIn(search: Search, window: Window): Condition[] {
	return [...within(search, window), ...conditionsOf(search)];
}

/** Whose and when. The time bounds are constants, so PostgreSQL plans, locks and opens the window's partition alone. */
export function within({ tenantId }: Search, window: Window): Condition[] {
	return [
		sql`tenant_id = ${tenantId}`,
		sql`occurred_at >= ${timestamp(window.from)}`,
		sql`occurred_at < ${timestamp(window.to)}`,
	];
}

/** The filters. */
export function conditionsOf(search: Search): Condition[] {
	const ofColumns = FILTER_NAMES.flatMap((name) => {
		const [filter, value]: [Filter, unknown] = [FILTERS[name], search[name]];
		if (value === undefined || filter.kind === "resource" || filter.kind === "reads") return [];
		return [columnFilter(filter, value)];
	});
	return [...ofColumns, ...resourceFilter(search), ...(omitsReads(search) ? [NO_READS] : [])];
}

export function timestamp(micros: Micros): RawBuilder<string> {
	return sql`${rfc3339(micros)}::timestamptz`;
}

/** Constants of ours. Only the service writes such actions, so the action alone tells. */
const NO_READS: Condition = sql`action <> all(${sql.lit(`{${READ_ACTIONS.join(",")}}`)}::text[])`;

/** What each kind of filter means; values are parameters, so nothing in them means anything to SQL. */
export function columnFilter({ kind, column: name }: Extract<Filter, { column: string }>, value: unknown): Condition {
	const column = sql.ref(name);
	switch (kind) {
		case "from":
			return sql`${column} >= ${timestamp(value as Micros)}`;
		case "before":
			return sql`${column} < ${timestamp(value as Micros)}`;
		case "text":
			return sql`${column} = ${value}`;
		case "texts":
			return sql`${column} = any(${value}::text[])`;
		case "numbers":
			return sql`${column} = any(${value}::integer[])`;
		case "uuids":
			return sql`${column} = any(${value}::uuid[])`;
		case "names": {
			const names = value as readonly string[];
			const exact = names.filter((text) => !text.endsWith("*"));
			const beginnings = names.filter((text) => text.endsWith("*")).map((text) => text.slice(0, -1));
			return sql`(${column} = any(${exact}::text[]) OR ${column} ^@ any(${beginnings}::text[]))`;
		}
	}
}

/**
 * The primary resource has columns; the related ones are found in the hashed text. Parsing it is dear, so rows that
 * cannot match are passed over first, by what is rarest: RFC 8785 spells a string in one way only, that of JSON.stringify.
 */
function resourceFilter({ resourceType: type, resourceId: id }: Search): Condition[] {
	if (type === undefined && id === undefined) return [];
	const all = (...conditions: (Condition | false)[]) => sql.join(conditions.filter(Boolean), sql` AND `);
	const primary = all(type !== undefined && sql`resource_type = ${type}`, id !== undefined && sql`resource_id = ${id}`);
	const plausible = all(
		id !== undefined && sql`strpos(u_resources, ${JSON.stringify(id)}) > 0`,
		type !== undefined && sql`strpos(u_resources, ${JSON.stringify(type)}) > 0`,
		sql`u_resources LIKE '%"related_resources":%'`,
	);
	const related = all(
		type !== undefined && sql`related ->> 'type' = ${type}`,
		id !== undefined && sql`related ->> 'id' = ${id}`,
	);
	return [
		sql`(${primary} OR ${plausible} AND EXISTS (
			SELECT FROM jsonb_array_elements(u_resources::jsonb -> 'related_resources') AS related WHERE ${related}))`,
	];
}
