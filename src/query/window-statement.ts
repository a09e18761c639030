import { type RawBuilder, type SqlBool, sql } from "kysely";
import type { QueryConfig } from "pg";
import { UNIT_PATHS } from "../event/event.ts";
import type { StoredRow } from "../storage/stored-row.ts";
import { compiler } from "./compiler.ts";
import { type Condition, conditionsOf, timestamp, type Window, within } from "./conditions.ts";
import type { Search } from "./filter.ts";
import type { Cursor } from "./page-token.ts";

/** What is wanted of a window: these columns, */
export interface Wanted {
	readonly columns: readonly string[];
	/** of at most so many rows, */
	readonly rows: number;
	/** and none after those that have so many bytes together: memory stays bounded whatever the rows hold. */
	readonly bytes: number;
}

/** Where to look: at rows in these places of the partition, or at so many from the cursor on. */
export type Candidates = { readonly places: readonly string[] } | { readonly first: number };

/**
 * What a window's statement selects besides: `bytes` counts the text of the row's units, without those that are masked. They are not
 * read, and must not have a part in where a page ends.
 */
export type Found<Row = StoredRow> = Row & { bytes: number };

/**
 * The statement that finds a search's rows in one window after the cursor, in order: tenant, time and cursor are a range of
 * the primary key.
 */
export function windowStatement(
	search: Search,
	window: Window,
	cursor: Cursor | undefined,
	wanted: Wanted,
	candidates?: Candidates,
): QueryConfig {
	const direction = search.newestFirst ? "desc" : "asc";
	const all = compiler.selectFrom("audit.events").selectAll();
	const inPart = [...within(search, window), ...afterCursor(search, cursor)];
	const part =
		candidates === undefined
			? all.where((eb) => eb.and(inPart))
			: "first" in candidates
				? all
						.where((eb) => eb.and(inPart))
						.orderBy("occurred_at", direction)
						.orderBy("id", direction)
						.limit(candidates.first)
				: // OFFSET keeps the order wanted out of it: PostgreSQL would go through the primary key to have it without sorting.
					all.where((eb) => eb.and([sql<SqlBool>`ctid = any(${candidates.places}::tid[])`, ...inPart])).offset(0);
	const found = compiler
		.selectFrom(part.as("part"))
		.selectAll()
		.select(bytesShown(search.masked).as("bytes"))
		.where((eb) => eb.and(conditionsOf(search)))
		.orderBy("occurred_at", direction)
		.orderBy("id", direction)
		.limit(wanted.rows);
	const order = sql.raw(`occurred_at ${direction}, id ${direction}`);
	const { sql: text, parameters } = sql`
		SELECT ${sql.raw(wanted.columns.join(", "))}, bytes FROM (
			SELECT *, sum(bytes) OVER (ORDER BY ${order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
			FROM ${found} AS found
		) AS counted
		WHERE coalesce(bytes_before, 0) < ${wanted.bytes}
		ORDER BY ${order}`.compile(compiler);
	return { text, values: [...parameters] };
}

/**
 * To be run before, in the same transaction. A search wants so little at a time that no other way can be better than an index in
 * its order, whatever PostgreSQL guesses; and compiling a search, which a server with JIT does to those it thinks dear, takes ten
 * times as long as the search.
 */
export const PLANS = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_sort', 'off', true), set_config('jit', 'off', true)`;

/** Read from the values' headers: nothing is decompressed or fetched for it. */
function bytesShown(masked: ReadonlySet<string>): RawBuilder<number> {
	const shown = UNIT_PATHS.filter((path) => !masked.has(path));
	return sql<number>`${sql.raw(shown.map((path) => `coalesce(octet_length(u_${path}), 0)`).join(" + "))}`;
}

export function afterCursor(search: Search, cursor: Cursor | undefined): Condition[] {
	if (!cursor) return [];
	const beyond = sql.raw(search.newestFirst ? "<" : ">");
	return [sql`(occurred_at, id) ${beyond} (${timestamp(cursor.occurredAt)}, ${cursor.id}::uuid)`];
}
