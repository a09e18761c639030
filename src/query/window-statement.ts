import {
	DummyDriver,
	Kysely,
	PostgresAdapter,
	PostgresIntrospector,
	PostgresQueryCompiler,
	type RawBuilder,
	type SqlBool,
	sql,
} from "kysely";
import type { QueryConfig } from "pg";
import { type Micros, UNIT_PATHS } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { type StoredRow, storedColumns } from "../storage/stored-row.ts";
import { omitsReads, type Search } from "./filter.ts";
import { FILTER_NAMES, FILTERS, type Filter } from "./filter-table.ts";
import type { Cursor } from "./page-token.ts";
import { READ_ACTIONS } from "./read-event.ts";

/** Part of one partition: from inclusive, to exclusive. */
export interface Window {
	readonly from: Micros;
	readonly to: Micros;
}

export interface WindowLimits {
	/** At most so many rows, */
	readonly rows: number;
	/** and none after those that have so many bytes together: memory stays bounded whatever the rows hold. */
	readonly bytes: number;
}

/**
 * What a window's statement selects: `bytes` counts the text of the row's units, without those that are masked. They are not
 * read, and must not have a part in where a page ends.
 */
export type FoundRow = StoredRow & { bytes: number };

/**
 * The statement that finds a search's rows in one window after the cursor, in order. Its time bounds are constants, so
 * PostgreSQL plans, locks and opens the window's partition alone; tenant, time and cursor are a range of its primary key.
 */
export function windowStatement(
	search: Search,
	window: Window,
	cursor: Cursor | undefined,
	limits: WindowLimits,
): QueryConfig {
	const direction = search.newestFirst ? "desc" : "asc";
	const found = compiler
		.selectFrom("audit.events")
		.selectAll()
		.select(bytesShown(search.masked).as("bytes"))
		.where("tenant_id", "=", search.tenantId)
		.where("occurred_at", ">=", timestamp(window.from))
		.where("occurred_at", "<", timestamp(window.to))
		.where((eb) => eb.and([...afterCursor(search, cursor), ...filters(search)]))
		.orderBy("occurred_at", direction)
		.orderBy("id", direction)
		.limit(limits.rows);
	const order = sql.raw(`occurred_at ${direction}, id ${direction}`);
	const { sql: text, parameters } = sql`
		SELECT ${sql.raw(storedColumns(search.masked).join(", "))}, bytes FROM (
			SELECT *, sum(bytes) OVER (ORDER BY ${order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
			FROM ${found} AS found
		) AS counted
		WHERE coalesce(bytes_before, 0) < ${limits.bytes}
		ORDER BY ${order}`.compile(compiler);
	return { text, values: [...parameters] };
}

/**
 * To be run before, in the same transaction: makes PostgreSQL walk the primary key in order and stop when the page is full,
 * whatever it guesses of the filters. Where it guesses that few rows match and many do, it would read and sort the month;
 * where it is right, the walk takes no longer (a tenant's 430,000 rows of a month of 860,000: 0.2 s either way, and no
 * parallel workers). Before PostgreSQL 18 what is off counts as so dear that a server with JIT would compile each search,
 * which takes ten times as long as the search.
 */
export const WALK_IN_ORDER = `SELECT set_config('enable_seqscan', 'off', true),
	set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), set_config('jit', 'off', true)`;

/** The columns that every search looks at; those of the filters are in their table. */
interface EventsTable {
	tenant_id: string;
	occurred_at: string;
	id: string;
}

/** Kysely as a writer of SQL: the statements run on the connection of the tenant's transaction. */
const compiler = new Kysely<{ "audit.events": EventsTable }>({
	dialect: {
		createAdapter: () => new PostgresAdapter(),
		createDriver: () => new DummyDriver(),
		createIntrospector: (db) => new PostgresIntrospector(db),
		createQueryCompiler: () => new PostgresQueryCompiler(),
	},
});

/** Read from the values' headers: nothing is decompressed or fetched for it. */
function bytesShown(masked: ReadonlySet<string>): RawBuilder<number> {
	const shown = UNIT_PATHS.filter((path) => !masked.has(path));
	return sql<number>`${sql.raw(shown.map((path) => `coalesce(octet_length(u_${path}), 0)`).join(" + "))}`;
}

function timestamp(micros: Micros): RawBuilder<string> {
	return sql`${rfc3339(micros)}::timestamptz`;
}

type Condition = RawBuilder<SqlBool>;

function afterCursor(search: Search, cursor: Cursor | undefined): Condition[] {
	if (!cursor) return [];
	const beyond = sql.raw(search.newestFirst ? "<" : ">");
	return [sql`(occurred_at, id) ${beyond} (${timestamp(cursor.occurredAt)}, ${cursor.id}::uuid)`];
}

function filters(search: Search): Condition[] {
	const ofColumns = FILTER_NAMES.flatMap((name) => {
		const [filter, value]: [Filter, unknown] = [FILTERS[name], search[name]];
		if (value === undefined || filter.kind === "resource" || filter.kind === "reads") return [];
		return [columnFilter(filter, value)];
	});
	return [...ofColumns, ...resourceFilter(search), ...(omitsReads(search) ? [NO_READS] : [])];
}

/** Constants of ours. Only the service writes such actions, so the action alone tells. */
const NO_READS: Condition = sql`action <> all(${sql.lit(`{${READ_ACTIONS.join(",")}}`)}::text[])`;

/** What each kind of filter means; values are parameters, so nothing in them means anything to SQL. */
function columnFilter({ kind, column: name }: Extract<Filter, { column: string }>, value: unknown): Condition {
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
