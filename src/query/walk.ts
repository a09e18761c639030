import { setTimeout as sleep } from "node:timers/promises";
import type { PoolClient } from "pg";
import type { MaskableUnit } from "../auth/principal.ts";
import { AuditError, tenantNotFound } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import type { QueryRequest } from "../gen/audit/v1/audit_service_pb.ts";
import { type Database, inTenant, inTenantAtOnce } from "../storage/db.ts";
import { type ExportedRow, exportedColumns } from "../storage/exported-row.ts";
import { Later, newestPoint, type Point } from "../storage/point.ts";
import { microsOfColumn } from "../storage/stored-row.ts";
import { breakConnection } from "../storage/transaction.ts";
import { type Asked, askedBy, canonicalText } from "./asked.ts";
import type { Window } from "./conditions.ts";
import { parseSearch, type Search } from "./filter.ts";
import type { Cursor } from "./page-token.ts";
import { rethrowTooSlow } from "./search.ts";
import { WindowSearch } from "./window-search.ts";
import { type Found, PLANS } from "./window-statement.ts";
import { entryOf, windowsOf } from "./windows.ts";

/** Some of a search's events, in its order, and the place after them; perhaps none, where a month has none. */
export interface WalkedRows {
	readonly rows: readonly ExportedRow[];
	readonly next: Cursor;
}

/** A search whose events are gone through, all of them, as they were at one point of the log. */
export interface Walk {
	readonly asked: Asked;
	/** What is searched for and in which order, as text: the same for the same. */
	readonly canonical: string;
	/** The newest point there is. @throws AuditError not_found if there is no such tenant, unavailable */
	point(): Promise<Point | undefined>;
	/**
	 * The events after a place that were committed by a point: a piece each time the next is asked for, so that nothing of the
	 * database is held in between.
	 *
	 * @param signal ends it in the middle of a statement
	 * @throws AuditError deadline_exceeded, unavailable
	 */
	rows(after: Cursor | undefined, batchNo: bigint, signal: AbortSignal): AsyncGenerator<WalkedRows>;
}

/** @throws AuditError permission_denied for filters of masked units; invalid_argument with every violation */
export function openWalk(
	db: Database,
	request: QueryRequest,
	tenantId: TenantId,
	masked: ReadonlySet<MaskableUnit>,
): Walk {
	const search = parseSearch(request, tenantId, masked);
	const { pageSize: _size, masked: _masked, ...bound } = search;
	return {
		asked: askedBy(request, search),
		canonical: canonicalText(bound),
		point: () =>
			inTenant(db, tenantId, async (client) => {
				const found = await client.query("SELECT FROM audit.tenants WHERE id = $1", [tenantId]);
				if (found.rowCount === 0) throw tenantNotFound();
				return newestPoint(client);
			}),
		rows: (after, batchNo, signal) => walkRows(db, search, after, new Later(batchNo), signal),
	};
}

/** What one statement reads: at most so much text, of so many rows. */
const PIECE_BYTES = 256 * 1024;
const PIECE_ROWS = { first: 200, most: 4_000 } as const;

async function* walkRows(
	db: Database,
	search: Search,
	after: Cursor | undefined,
	later: Later,
	signal: AbortSignal,
): AsyncGenerator<WalkedRows> {
	let [place, rows]: [Cursor | undefined, number] = [after, PIECE_ROWS.first];
	// Asked once, unlike a search's: what was committed by the point is in partitions that there were then.
	let windows: readonly Window[] | undefined;
	for (;;) {
		const [from, limits] = [place, { rows, bytes: PIECE_BYTES }];
		const read = async (client: PoolClient) => {
			await client.query(SETTINGS);
			windows ??= await windowsOf(client, search, from);
			return readPiece(client, search, from, limits, later, windows);
		};
		const piece = await overRestarts(signal, () =>
			// Where the next piece begins is asked for by a statement of its own: it must see what was read, and no more.
			inTenantAtOnce(db, search.tenantId, (client) => unlessAborted(client, signal, read)).catch(rethrowTooSlow),
		);
		if (!piece) return;
		yield piece;
		place = piece.next;
		if (piece.isWindowOver) windows = windows?.slice(1);
		rows = Math.min(PIECE_ROWS.most, Math.max(PIECE_ROWS.first, rowsAfter(piece, rows)));
	}
}

/** As many as fill a piece, if they go on like these; where few were found, more are looked through. */
function rowsAfter({ read, bytes }: Piece, wanted: number): number {
	const fitting = Math.ceil((read / Math.max(bytes, 1)) * PIECE_BYTES);
	return read < wanted && bytes < PIECE_BYTES ? Math.max(2 * wanted, fitting) : fitting;
}

/** How long an export waits for a database that is away, each time longer: it may be starting again. */
const PATIENCE_MS = [100, 500, 1_000, 2_000, 4_000];

/** Reading changes nothing, so it is simply done again. @throws AuditError unavailable once that has not helped */
async function overRestarts<T>(signal: AbortSignal, read: () => Promise<T>): Promise<T> {
	for (const waitMs of PATIENCE_MS) {
		try {
			return await read();
		} catch (error) {
			if (signal.aborted || !(error instanceof AuditError) || error.code !== "unavailable") throw error;
			await sleep(waitMs, undefined, { signal });
		}
	}
	return read();
}

interface Piece extends WalkedRows {
	/** What was read for it, with what came after the point. */
	readonly read: number;
	readonly bytes: number;
	readonly isWindowOver: boolean;
}

/** @param windows those that are left, the first of them perhaps in part @returns undefined at the end */
async function readPiece(
	client: PoolClient,
	search: Search,
	after: Cursor | undefined,
	limits: { rows: number; bytes: number },
	later: Later,
	[window, following]: readonly Window[],
): Promise<Piece | undefined> {
	if (!window) return undefined;
	const part = new WindowSearch<ExportedRow>(client, search, window);
	const wanted = { columns: exportedColumns(search.masked), ...limits };
	const { rows: found, reached } = await part.next(after, wanted);
	const rows = await later.without(client, found);
	const last = found.at(-1);
	const isMore = last !== undefined && (found.length === limits.rows || bytesOf(found) >= limits.bytes);
	const inside = isMore ? { occurredAt: microsOfColumn(last.occurred_us), id: last.id } : reached;
	const next = inside ?? exitOf(window, following, search);
	return { rows, next, read: found.length, bytes: bytesOf(found), isWindowOver: inside === undefined };
}

function bytesOf(rows: readonly Found<ExportedRow>[]): number {
	return rows.reduce((sum, row) => sum + row.bytes, 0);
}

/** The place right after a window's end. */
function exitOf(window: Window, following: Window | undefined, search: Search): Cursor {
	if (following) return entryOf(following, search);
	const beyond = { from: window.to, to: window.from } as Window;
	return entryOf(beyond, search);
}

/** PostgreSQL looks twice a second whether anybody still waits for the statement. */
const SETTINGS = `${PLANS}, set_config('client_connection_check_interval', '500', true)`;

/** Runs with a connection that is broken when the signal comes: PostgreSQL then gives the statement up. */
async function unlessAborted<T>(
	client: PoolClient,
	signal: AbortSignal,
	run: (client: PoolClient) => Promise<T>,
): Promise<T> {
	signal.throwIfAborted();
	const stop = () => breakConnection(client);
	signal.addEventListener("abort", stop, { once: true });
	try {
		return await run(client);
	} finally {
		signal.removeEventListener("abort", stop);
	}
}
