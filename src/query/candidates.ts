import { type RawBuilder, sql } from "kysely";
import type { PoolClient } from "pg";
import type { EventId } from "../event/event.ts";
import { microsOfColumn, microsSql } from "../storage/stored-row.ts";
import { compiler } from "./compiler.ts";
import { timestamp, type Window, within } from "./conditions.ts";
import type { Search } from "./filter.ts";
import type { Cursor } from "./page-token.ts";
import type { Source } from "./sources.ts";
import { afterCursor } from "./window-statement.ts";

/** All that can match in a part of a window. */
export interface Listed {
	/** Where the rows are, as PostgreSQL names places within a partition. */
	readonly places: readonly string[];
	/** The part ends with this event. Undefined: with the window. */
	readonly reached: Cursor | undefined;
}

/** More than these without order are no help: which of them come first can be told only when all are there. */
const MOST_UNORDERED = 500;

interface Candidate {
	/** Which list it is from; NULL: from none that has an order. */
	list: string | null;
	place: string;
	occurred_us: string;
	id: EventId;
}

/**
 * The source's next candidates, about `count` of them. Where lists were cut off, what is certain is only what comes before the
 * first of the cuts.
 *
 * @returns undefined if the source is of no use here
 */
export async function listedBy(
	client: PoolClient,
	{ search, window, cursor }: Place,
	source: Source,
	count: number,
): Promise<Listed | undefined> {
	const values = source.lists.reduce((sum, list) => sum + list.values.length, 0);
	const perList = Math.max(2, Math.ceil(count / Math.max(1, values)));
	const { text, parameters } = candidatesSql({ search, window, cursor }, source, perList);
	const { rows } = await client.query<Candidate>(text, parameters);
	const unordered = rows.filter(({ list }) => list === null).length;
	if (unordered >= MOST_UNORDERED) return undefined;
	let reached: Cursor | undefined;
	for (const [list, listed] of Map.groupBy(rows, (row) => row.list)) {
		if (list === null || listed.length < perList) continue;
		const end = listed.map(cursorOf).reduce((last, each) => (isBefore(last, each, search) ? each : last));
		if (!reached || isBefore(end, reached, search)) reached = end;
	}
	const certain = reached ? rows.filter((row) => !isBefore(reached, cursorOf(row), search)) : rows;
	return { places: [...new Set(certain.map(({ place }) => place))], reached };
}

/** The event that so many rows of a window end with. @returns undefined if there are not so many */
export async function endOf(client: PoolClient, place: Place, count: number): Promise<Cursor | undefined> {
	const direction = sql.raw(place.search.newestFirst ? "DESC" : "ASC");
	const query = sql`
		SELECT ${sql.raw(microsSql("occurred_at"))} AS occurred_us, id FROM audit.events
		WHERE ${inPlace(place)} ORDER BY occurred_at ${direction}, id ${direction} OFFSET ${count - 1} LIMIT 1`.compile(
		compiler,
	);
	const { rows } = await client.query<Candidate>(query.sql, [...query.parameters]);
	const [last] = rows;
	return last && cursorOf(last);
}

/** What is left of a window. */
export interface Place {
	readonly search: Search;
	readonly window: Window;
	readonly cursor: Cursor | undefined;
}

/** Whether one event comes before another in the search's order. */
export function isBefore(a: Cursor, b: Cursor, { newestFirst }: Search): boolean {
	const earlier = a.occurredAt < b.occurredAt || (a.occurredAt === b.occurredAt && a.id < b.id);
	const same = a.occurredAt === b.occurredAt && a.id === b.id;
	return !same && earlier !== newestFirst;
}

function cursorOf({ occurred_us, id }: Candidate): Cursor {
	return { occurredAt: microsOfColumn(occurred_us), id };
}

function inPlace({ search, window, cursor }: Place): RawBuilder<unknown> {
	return sql.join([...within(search, window), ...afterCursor(search, cursor)], sql` AND `);
}

function candidatesSql(place: Place, source: Source, perList: number): { text: string; parameters: unknown[] } {
	const { search, window } = place;
	const found = sql`ctid::text AS place, ${sql.raw(microsSql("occurred_at"))} AS occurred_us, id`;
	const direction = sql.raw(search.newestFirst ? "DESC" : "ASC");
	const parts = source.lists.map(({ column: name, type, values, guard }, i) => {
		const column = sql.ref(name);
		// The pair with the time is what makes PostgreSQL go through this index and no other, whatever it thinks is rare: no other
		// one has that order, and where the list begins and ends is a range of it.
		return sql`
			SELECT ${sql.lit(`${i}.`)} || v.n AS list, f.* FROM unnest(${values}::${sql.raw(type)}[]) WITH ORDINALITY AS v (value, n)
			CROSS JOIN LATERAL (
				SELECT ${found} FROM audit.events
				WHERE ${inPlace(place)}
				  AND (${column}, occurred_at) >= (v.value, ${timestamp(window.from)})
				  AND (${column}, occurred_at) < (v.value, ${timestamp(window.to)})${guard ? sql` AND ${guard}` : sql``}
				ORDER BY ${column} ${direction}, occurred_at ${direction}, id ${direction} LIMIT ${perList}
			) AS f`;
	});
	const unordered = sql`NULL AS list, tid::text AS place, ${sql.raw(microsSql("occurred_at"))} AS occurred_us, id`;
	if (source.hashed) {
		const { field, values } = source.hashed;
		parts.push(sql`
			SELECT ${unordered} FROM audit.find_hashed(${field}, ${values}, ${timestamp(window.from)}, ${MOST_UNORDERED})`);
	}
	if (source.linked) {
		const { actors, resources } = source.linked;
		parts.push(sql`
			SELECT ${unordered} FROM audit.find_linked(${actors}, ${resources}, ${timestamp(window.from)}, ${MOST_UNORDERED})`);
	}
	const query = sql.join(parts, sql` UNION ALL `).compile(compiler);
	return { text: query.sql, parameters: [...query.parameters] };
}
