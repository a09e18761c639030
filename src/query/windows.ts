import type { PoolClient } from "pg";
import type { EventId, Micros } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { millisOfId, rfc3339 } from "../event/time.ts";
import { microsOfColumn, microsSql } from "../storage/stored-row.ts";
import type { Window } from "./conditions.ts";
import { EARLIEST, LATEST, type Search } from "./filter.ts";
import type { Cursor } from "./page-token.ts";

/** The parts of the partitions that can hold what is still to be found, in the search's direction, apart from each other. */
export async function windowsOf(client: PoolClient, query: Search, cursor: Cursor | undefined): Promise<Window[]> {
	const range = rangeOf(query, cursor);
	const inRange = clipAll(await partitions(client), [range]);
	const windows = query.ids ? clipAll(inRange, await timesOfIds(client, query, query.ids, range)) : inRange;
	return query.newestFirst ? windows.reverse() : windows;
}

/**
 * Asked anew for every page, in its own transaction: with a list from a moment ago, the first event of a month that had
 * no partition then would be skipped.
 */
async function partitions(client: PoolClient): Promise<Window[]> {
	const { rows } = await client.query<{ from_us: string; to_us: string }>(
		`SELECT (extract(epoch FROM starts_at) * 1000000)::bigint AS from_us,
			(extract(epoch FROM ends_at) * 1000000)::bigint AS to_us
		FROM audit.partitions() ORDER BY starts_at`,
	);
	return rows.map((row) => ({ from: microsOfColumn(row.from_us), to: microsOfColumn(row.to_us) }));
}

/** The times outside of which nothing can match. */
function rangeOf(query: Search, cursor: Cursor | undefined): Window {
	const beyond = cursor && boundOf(cursor, query);
	// An event happened 24 hours after it was recorded at most. How long before, says nothing worth knowing: 10 years.
	const ahead = BigInt(LIMITS.aheadHours) * 3_600_000_000n;
	const recorded = query.recordedBefore === undefined ? undefined : ((query.recordedBefore + ahead) as Micros);
	const from = later(query.occurredAfter ?? EARLIEST, query.newestFirst ? undefined : beyond);
	const to = earlier(query.occurredBefore ?? LATEST, query.newestFirst ? beyond : undefined);
	return { from, to: earlier(to, recorded) };
}

const FIRST_ID = "00000000-0000-0000-0000-000000000000" as EventId;
const LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff" as EventId;

/** Where the times begin (newest first: before which they end) that may hold events after the cursor. */
function boundOf({ occurredAt, id }: Cursor, { newestFirst }: Search): Micros {
	// The cursor's own microsecond may have more to come, unless its id is the last one in that direction.
	if (newestFirst) return id === FIRST_ID ? occurredAt : ((occurredAt + 1n) as Micros);
	return id === LAST_ID ? ((occurredAt + 1n) as Micros) : occurredAt;
}

/** The place just outside a window, where a search comes in: `boundOf` it is the window's own bound. */
export function entryOf(window: Window, { newestFirst }: Search): Cursor {
	return newestFirst
		? { occurredAt: window.to, id: FIRST_ID }
		: { occurredAt: (window.from - 1n) as Micros, id: LAST_ID };
}

/**
 * When events with these ids happened, ascending and apart from each other: an id that names its millisecond was used
 * there, and any id may have been used at other times, which a partial index knows. With this an event is found by its id
 * without going through its month.
 */
async function timesOfIds(client: PoolClient, query: Search, ids: readonly string[], range: Window): Promise<Window[]> {
	const { rows } = await client.query<{ from_us: string; to_us: string }>(
		`SELECT ${microsSql("min(occurred_at)")} AS from_us, ${microsSql("max(occurred_at)")} AS to_us FROM audit.events
		WHERE tenant_id = $1 AND id = any($2::uuid[]) AND NOT timed AND occurred_at >= $3 AND occurred_at < $4
		GROUP BY tableoid`,
		[query.tenantId, ids, rfc3339(range.from), rfc3339(range.to)],
	);
	const untimed = rows.map((row) => ({
		from: microsOfColumn(row.from_us),
		to: (microsOfColumn(row.to_us) + 1n) as Micros,
	}));
	const timed = ids.flatMap((id) => {
		const millis = millisOfId(id as EventId);
		if (millis === undefined) return [];
		return [{ from: (millis * 1000n) as Micros, to: ((millis + 1n) * 1000n) as Micros }];
	});
	return merged([...untimed, ...timed]);
}

/** The same times, ascending and apart from each other. */
function merged(windows: Window[]): Window[] {
	const apart: Window[] = [];
	for (const window of windows.sort((a, b) => (a.from < b.from ? -1 : 1))) {
		const last = apart.at(-1);
		if (last && window.from <= last.to) apart.splice(-1, 1, { from: last.from, to: later(last.to, window.to) });
		else apart.push(window);
	}
	return apart;
}

/** Where both have something; both, and the result, are ascending and apart from each other. */
function clipAll(windows: Window[], others: Window[]): Window[] {
	return windows
		.flatMap((a) => others.map((b) => ({ from: later(a.from, b.from), to: earlier(a.to, b.to) })))
		.filter(({ from, to }) => from < to);
}

function later(a: Micros, b: Micros | undefined): Micros {
	return b !== undefined && b > a ? b : a;
}

function earlier(a: Micros, b: Micros | undefined): Micros {
	return b !== undefined && b < a ? b : a;
}
