import { type RawBuilder, type SqlBool, sql } from "kysely";
import type { QueryConfig } from "pg";
import { UNIT_PATHS } from "../event/event.ts";
import { type StoredRow, storedColumns } from "../storage/stored-row.ts";
import type { Candidates } from "./candidates.ts";
import { compiler } from "./compiler.ts";
import { type Condition, conditionsIn, timestamp, type Window } from "./conditions.ts";
import type { Search } from "./filter.ts";
import type { Cursor } from "./page-token.ts";

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
 * The statement that finds a search's rows in one window after the cursor, in order: tenant, time and cursor are a range of
 * the primary key.
 */
export function windowStatement(
	search: Search,
	window: Window,
	cursor: Cursor | undefined,
	limits: WindowLimits,
	candidates?: Candidates,
): QueryConfig {
	const direction = search.newestFirst ? "desc" : "asc";
	const found = compiler
		.selectFrom("audit.events")
		.selectAll()
		.select(bytesShown(search.masked).as("bytes"))
		.where((eb) =>
			eb.and([...conditionsIn(search, window), ...afterCursor(search, cursor), ...among(search, candidates)]),
		)
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
 * To be run before, in the same transaction. Most searches are for so little that no other way can be better than an index in its
 * order; and compiling a search, which a server with JIT does to those it thinks dear, takes ten times as long as the search.
 */
export const PLANS = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('jit', 'off', true)`;

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

function among({ newestFirst }: Search, candidates: Candidates | undefined): Condition[] {
	const { places, reached } = candidates ?? {};
	const upTo = sql.raw(newestFirst ? ">=" : "<=");
	return [
		...(places ? [sql<SqlBool>`ctid = any(${places}::tid[])`] : []),
		...(reached
			? [sql<SqlBool>`(occurred_at, id) ${upTo} (${timestamp(reached.occurredAt)}, ${reached.id}::uuid)`]
			: []),
	];
}
