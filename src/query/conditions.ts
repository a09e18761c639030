import { type RawBuilder, type SqlBool, sql } from "kysely";
import type { Micros } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { omitsReads, type Search } from "./filter.ts";
import { type ColumnFilter, FILTER_NAMES, FILTERS, type Filter } from "./filter-table.ts";
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
	const given = FILTER_NAMES.flatMap((name) => {
		const [filter, value]: [Filter, unknown] = [FILTERS[name], search[name]];
		return value === undefined ? [] : meaningOf(filter, value);
	});
	return [...given, ...resourceFilter(search), ...(omitsReads(search) ? [NO_READS] : [])];
}

export function timestamp(micros: Micros): RawBuilder<string> {
	return sql`${rfc3339(micros)}::timestamptz`;
}

/** Constants of ours. Only the service writes such actions, so the action alone tells. */
const NO_READS: Condition = sql`action <> all(${sql.lit(`{${READ_ACTIONS.join(",")}}`)}::text[])`;

function meaningOf(filter: Filter, value: unknown): Condition[] {
	if ("column" in filter) return [columnFilter(filter, value)];
	switch (filter.kind) {
		case "actors":
			return [isActor(value as readonly string[])];
		case "touching":
			return [sql`(${isActor(value as readonly string[])} OR ${isResource(value as readonly string[])})`];
		case "words":
			return hasWords(value as string);
		// These two are not by themselves: see conditionsOf.
		case "resource":
		case "reads":
			return [];
	}
}

/** What each kind of filter of a column means; values are parameters, so nothing in them means anything to SQL. */
export function columnFilter({ kind, column: name }: ColumnFilter, value: unknown): Condition {
	const column = sql.ref<string>(name);
	switch (kind) {
		case "from":
			return sql`${column} >= ${timestamp(value as Micros)}`;
		case "before":
			return sql`${column} < ${timestamp(value as Micros)}`;
		case "text":
			return sql`${column} = ${value}`;
		case "texts":
			return sql`${column} = any(${value}::text[])`;
		case "notTexts":
			// Of a column that is empty, NOT would say NULL.
			return sql`(${column} = any(${value}::text[])) IS NOT TRUE`;
		case "numbers":
			return sql`${column} = any(${value}::integer[])`;
		case "uuids":
			return sql`${column} = any(${value}::uuid[])`;
		case "names":
			return isNamed(column, value as readonly string[]);
		case "notNames":
			return sql`${isNamed(column, value as readonly string[])} IS NOT TRUE`;
	}
}

function isNamed(column: RawBuilder<string>, names: readonly string[]): Condition {
	const exact = names.filter((text) => !text.endsWith("*"));
	const beginnings = names.filter((text) => text.endsWith("*")).map((text) => text.slice(0, -1));
	return sql`(${column} = any(${exact}::text[]) OR ${column} ^@ any(${beginnings}::text[]))`;
}

function isActor(ids: readonly string[]): Condition {
	return sql`(actor_id = any(${ids}::text[]) OR ${isListed("u_actor", "on_behalf_of", ids)})`;
}

function isResource(ids: readonly string[]): Condition {
	return sql`(resource_id = any(${ids}::text[]) OR ${isListed("u_resources", "related_resources", ids)})`;
}

/** Whether one of a unit's list has one of the ids. As below, rows are passed over by the unparsed text first. */
function isListed(unit: string, list: string, ids: readonly string[]): Condition {
	const text = sql.ref(unit);
	const spelt = ids.map((id) => `%${JSON.stringify(id).replace(/[\\%_]/g, "\\$&")}%`);
	return sql`(${text} LIKE ${`%"${list}":%`} AND ${text} LIKE any(${spelt}::text[]) AND EXISTS (
		SELECT FROM jsonb_array_elements(${text}::jsonb -> ${sql.lit(list)}) AS listed WHERE listed ->> 'id' = any(${ids}::text[])))`;
}

/**
 * What a word is, is said by SQL functions: for the event's texts and the words that are sought alike. To cut texts into words is
 * dear, so rows that cannot match are passed over first: where nothing is folded but A to Z, a word is in the texts as it is.
 * What an index could be of stands on one side by itself.
 */
function hasWords(words: string): Condition[] {
	const texts = sql`(action || coalesce(u_actor, '') || coalesce(u_description, '') || coalesce(u_resources, ''))`;
	const plain = sql`(octet_length(${texts}) = length(${texts}) OR ${texts} !~ audit.folding())`;
	return [
		sql`(lower(${texts} COLLATE "C") LIKE all(audit.text_patterns(${words})) OR NOT ${plain})`,
		sql`array_to_tsvector(audit.text_words(action, u_actor, u_description, u_resources)) @@ audit.text_query(${words})`,
	];
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
