import { type RawBuilder, sql } from "kysely";
import type { QueryArrayConfig } from "pg";
import type { Micros } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { COUNTED_FIELDS, type FieldNumber } from "./aggregate-fields.ts";
import { compiler } from "./compiler.ts";
import { type Condition, conditionsIn, type Window } from "./conditions.ts";
import type { Search } from "./filter.ts";

/** What is counted in one pass over the rows. */
export interface Counting {
	readonly search: Search;
	/** The buckets' bounds; none: there are no buckets. */
	readonly bounds: readonly Micros[];
	readonly fields: readonly FieldNumber[];
}

/** How many events have the same value of a field, or are in the same bucket, or are there at all. */
export interface Group {
	readonly of: FieldNumber | "bucket" | "all";
	/** The field's columns, as texts; of a bucket its place. */
	readonly values: readonly (string | null)[];
	readonly count: number;
}

/** How the rows of a counting's statement are read. */
export interface CountStatement {
	readonly query: QueryArrayConfig;
	readonly groupOf: (row: readonly unknown[]) => Group;
}

/**
 * Counts by everything at once: GROUPING SETS makes a hash table for each and reads the rows once, where a statement for each
 * would read them as often. Of each grouping it gives `most` groups at most, whichever: who gets that many does not have them all.
 */
export function countStatement({ search, bounds, fields }: Counting, window: Window, most: number): CountStatement {
	const columns = [...new Set(fields.flatMap((field) => COUNTED_FIELDS[field].columns))];
	const names = [...(bounds.length > 0 ? ["bucket"] : []), ...columns];
	const list = sql.raw(names.map((name) => `${name}, `).join(""));
	const of = sql.raw(names.length > 0 ? `GROUPING(${names.join(", ")})` : "0");
	const sets: readonly { of: Group["of"]; names: readonly string[] }[] = [
		bounds.length > 0 ? { of: "bucket", names: ["bucket"] } : { of: "all", names: [] },
		...fields.map((field) => ({ of: field, names: COUNTED_FIELDS[field].columns })),
	];
	const query = sql`
		SELECT * FROM (
			SELECT ${of} AS of, ${list} count(*) AS n, row_number() OVER (PARTITION BY ${of}) AS place
			FROM (SELECT ${bucketOf(bounds)} AS bucket, * FROM audit.events WHERE ${all(conditionsIn(search, window))}) AS found
			GROUP BY GROUPING SETS (${sql.raw(sets.map((set) => `(${set.names.join(", ")})`).join(", "))})
		) AS counted WHERE place <= ${most}`;
	const byMask = new Map(sets.map((set) => [maskOf(set.names, names), set]));
	return {
		query: asArrays(query),
		groupOf: (row) => {
			const set = byMask.get(row[0] as number);
			if (!set) throw new Error("PostgreSQL counted by something it was not asked for");
			const values = set.names.map((name) => textOf(row[1 + names.indexOf(name)] as Column));
			return { of: set.of, values, count: Number(row[1 + names.length]) };
		},
	};
}

/**
 * The most frequent values of one field, after how often it is absent, and in the last column how many values there are,
 * absence included: for fields with more values than are kept in memory here. PostgreSQL puts what does not fit into its own
 * on disk.
 */
export function topStatement(search: Search, field: FieldNumber, window: Window, top: number): CountStatement {
	const { columns, names } = COUNTED_FIELDS[field];
	const list = sql.raw(columns.join(", "));
	const absent = names ? sql`${list} = 0` : sql`num_nonnulls(${list}) = 0`;
	const query = sql`
		SELECT ${list}, count(*) AS n, count(*) OVER () AS of
		FROM audit.events WHERE ${all(conditionsIn(search, window))}
		GROUP BY ${list}
		ORDER BY ${absent} DESC, n DESC, ${sql.raw(columns.map((name) => `${name} NULLS FIRST`).join(", "))}
		LIMIT ${top + 1}`;
	return {
		query: asArrays(query),
		groupOf: (row) => ({
			of: field,
			values: columns.map((_, i) => textOf(row[i] as Column)),
			count: Number(row[columns.length]),
		}),
	};
}

/** The place of an event's bucket, from 1: a binary search among bounds that were computed once, whatever the calendar. */
function bucketOf(bounds: readonly Micros[]): RawBuilder<number> {
	if (bounds.length === 0) return sql`NULL`;
	return sql`width_bucket(occurred_at, ${bounds.slice(0, -1).map(rfc3339)}::timestamptz[])`;
}

/** What GROUPING says of a set: a bit for each name it does not have, the last name's the lowest. */
function maskOf(set: readonly string[], names: readonly string[]): number {
	return names.reduce((mask, name) => mask * 2 + (set.includes(name) ? 0 : 1), 0);
}

function all(conditions: readonly Condition[]): RawBuilder<boolean> {
	return sql.join([...conditions], sql` AND `);
}

function asArrays(query: RawBuilder<unknown>): QueryArrayConfig {
	const { sql: text, parameters } = query.compile(compiler);
	return { text, values: [...parameters], rowMode: "array" };
}

type Column = string | number | null;

function textOf(value: Column): string | null {
	return value === null ? null : String(value);
}
