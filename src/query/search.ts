import { toBinary } from "@bufbuild/protobuf";
import pg from "pg";
import { AuditError } from "../errors.ts";
import { type Event, EventSchema } from "../gen/audit/v1/event_pb.ts";
import { type Database, inTenantAtOnce } from "../storage/db.ts";
import { renderEvent } from "../storage/render-event.ts";
import { microsOfColumn, type StoredRow, storedColumns } from "../storage/stored-row.ts";
import type { Search } from "./filter.ts";
import type { Cursor } from "./page-token.ts";
import { WindowSearch } from "./window-search.ts";
import { type Found, PLANS } from "./window-statement.ts";
import { entryOf, windowsOf } from "./windows.ts";

export interface PageLimits {
	/** The events of a page together, as JSON and as protobuf. */
	readonly bytes: number;
	/** No further window is opened after it: the page ends there, and a search for something rare goes on with the next. */
	readonly millis: number;
}

/** 3 MiB: protobuf libraries refuse messages above 4 by default. 5 s: well within a caller's deadline of 30. */
export const PAGE_LIMITS: PageLimits = { bytes: 3 * 1024 * 1024, millis: 5_000 };

export interface Page {
	readonly events: Event[];
	/** Where the next page begins; undefined at the true end only. */
	readonly next: Cursor | undefined;
}

/**
 * Finds the events after `cursor`, at most a page of them. Walks the partitions from the search's near end, one
 * statement for each, and stops when the page is full. Events never change and never leave their place in the order, so
 * whatever is written meanwhile, a place stays a place: nothing is repeated or skipped. All statements of a page see the same
 * events: where the next goes on is where the last one ended.
 *
 * @throws AuditError unavailable, deadline_exceeded
 */
export async function search(
	db: Database,
	query: Search,
	cursor: Cursor | undefined,
	limits: PageLimits = PAGE_LIMITS,
): Promise<Page> {
	const { rows, next } = await inTenantAtOnce(db, query.tenantId, (client) => gather(client, query, cursor, limits));
	const events = rows.map((row) => renderEvent(row, query.masked));
	return cutToSize(rows, events, next, limits.bytes, FRAME_BYTES + query.masked.size * MASKED_UNIT_BYTES);
}

interface Gathered {
	readonly rows: Found[];
	readonly next: Cursor | undefined;
}

async function gather(
	client: pg.PoolClient,
	query: Search,
	cursor: Cursor | undefined,
	limits: PageLimits,
): Promise<Gathered> {
	const deadline = performance.now() + limits.millis;
	await client.query(PLANS);
	const columns = storedColumns(query.masked);
	const rows: Found[] = [];
	let bytes = 0;
	const windows = await windowsOf(client, query, cursor).catch(rethrowTooSlow);
	let steps = 0;
	for (const window of windows) {
		const part = new WindowSearch<StoredRow>(client, query, window);
		let reached: Cursor | undefined;
		do {
			// There is always one step: every page gets on.
			if (steps > 0 && performance.now() >= deadline) return { rows, next: reached ?? entryOf(window, query) };
			steps += 1;
			// One row more than the page holds tells whether there is another page.
			const wanted = { columns, rows: query.pageSize + 1 - rows.length, bytes: limits.bytes - bytes };
			const isFirst = steps === 1;
			const step = await part.next(reached ?? cursor, wanted).catch((error: unknown) => {
				if (isFirst || !isTooSlow(error)) return rethrowTooSlow(error);
			});
			// Steps grow: the next page begins here with a small one.
			if (!step) return { rows, next: reached ?? entryOf(window, query) };
			for (const row of step.rows) bytes += row.bytes;
			rows.push(...step.rows);
			if (rows.length > query.pageSize || bytes >= limits.bytes) {
				if (rows.length > query.pageSize) rows.length = query.pageSize;
				return { rows, next: placeOf(rows.at(-1)) };
			}
			reached = step.reached;
		} while (reached);
	}
	return { rows, next: undefined };
}

function placeOf(row: Found | undefined): Cursor | undefined {
	return row && { occurredAt: microsOfColumn(row.occurred_us), id: row.id };
}

/** PostgreSQL's own time limit for one statement: the database is well, the search is too wide for what it seeks. */
export function rethrowTooSlow(error: unknown): never {
	if (!isTooSlow(error)) throw error;
	throw new AuditError("deadline_exceeded", "the search took too long; give a shorter time range or other filters", {
		reason: "SEARCH_TOO_SLOW",
		cause: error,
	});
}

function isTooSlow(error: unknown): boolean {
	return error instanceof pg.DatabaseError && error.code === "57014";
}

/** What an event has besides its units (key, times, hash, salts, names of fields), at most. */
const FRAME_BYTES = 1024;
/** What is answered instead of a masked unit, in JSON. */
const MASKED_UNIT_BYTES = 96;
/** How much longer a value can be in protobuf than in JSON: a list of digits has 2 bytes for each there and 11 here. */
const WORST_RATIO = 6;

/** Ends the page before the event that would make it too big. The gathered text is close; this is exact. */
function cutToSize(rows: Found[], events: Event[], next: Cursor | undefined, limit: number, frame: number): Page {
	const atMost = rows.reduce((sum, row) => sum + row.bytes * WORST_RATIO + frame, 0);
	if (atMost <= limit) return { events, next };
	let bytes = 0;
	for (const [i, event] of events.entries()) {
		const json = (rows[i]?.bytes ?? 0) + frame;
		bytes += Math.max(json, toBinary(EventSchema, event).byteLength + 8);
		if (bytes > limit && i > 0) return { events: events.slice(0, i), next: placeOf(rows[i - 1]) };
	}
	return { events, next };
}
