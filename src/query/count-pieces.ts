import pg from "pg";
import type { Micros } from "../event/event.ts";
import type { FieldNumber } from "./aggregate-fields.ts";
import type { Window } from "./conditions.ts";
import { type CountStatement, countStatement, topStatement } from "./count-statement.ts";
import type { Search } from "./filter.ts";
import { type Found, isAbsent, type Tally } from "./tally.ts";

export interface CountLimits {
	/** For how long a call counts; half as long again where there are more values than `values`. */
	readonly millis: number;
	/** How long one statement should take: the time it counts is made shorter or longer accordingly. */
	readonly statementMillis: number;
	/** How many values of all fields together are kept in memory. */
	readonly values: number;
}

/**
 * 5 s: well within a caller's deadline of 30. 10,000 values take some megabytes; to count more of them at once is quicker than
 * to add them up piece by piece.
 */
export const COUNT_LIMITS: CountLimits = { millis: 5_000, statementMillis: 500, values: 10_000 };

/** What is counted, and for how long. */
export interface Work {
	readonly search: Search;
	/** The buckets' bounds; none: there are no buckets. */
	readonly bounds: readonly Micros[];
	readonly tally: Tally;
	readonly limits: CountLimits;
	/** When counting began, by `performance.now`. */
	readonly began: number;
}

/** Less than that is not worth another statement. */
const LEAST_MS = 20;
/** What the first statement counts: it may be a busy hour. */
const FIRST_SPAN = 3_600_000_000n;
/** How much more or less time the next statement may count than this one. */
const STEP = 8;

/**
 * Counts windows from the newest to the oldest, piece by piece. A piece is one statement: short enough for little to be in
 * vain if time is over before its end.
 *
 * @param windows the newest first
 * @returns since when everything was counted; undefined if time was not over before the end
 */
export async function countPieces(
	client: pg.PoolClient,
	work: Work,
	windows: readonly Window[],
): Promise<Micros | undefined> {
	const { search, bounds, tally, limits } = work;
	let span = FIRST_SPAN;
	for (const window of windows) {
		for (let { to } = window; to > window.from; ) {
			const started = performance.now();
			const left = timeLeft(work);
			if (left < LEAST_MS) return to;
			const from = to - span > window.from ? ((to - span) as Micros) : window.from;
			// One value more than are kept tells that there are too many.
			const most = Math.max(limits.values + 1, bounds.length);
			const statement = countStatement({ search, bounds, fields: tally.narrow }, { from, to }, most);
			// One that takes four times as long as it should is too long: what it counts is counted in several.
			const patience = Math.max(LEAST_MS, limits.statementMillis * 4);
			const rows = await rowsWithin(client, statement, Math.min(left, patience));
			if (rows) tally.add(rows.map(statement.groupOf));
			// So that time is over after a piece, rather than within one.
			const wanted = Math.min(limits.statementMillis, timeLeft(work) / 2);
			span = nextSpan(to - from, performance.now() - started, rows === undefined, wanted);
			if (rows) to = from;
		}
	}
	return undefined;
}

/** Fields that have too many values are counted once more, and need time as well. */
function timeLeft({ tally, limits, began }: Work): number {
	return began + (tally.wide.length > 0 ? limits.millis * (2 / 3) : limits.millis) - performance.now();
}

function nextSpan(span: bigint, took: number, inVain: boolean, wanted: number): bigint {
	if (inVain) return span / BigInt(STEP) || 1n;
	// Not for a little more than wanted: what a statement costs is in part the same however little it counts.
	if (took >= wanted && took <= 2 * wanted) return span;
	const factor = Math.min(STEP, Math.max(1 / STEP, wanted / Math.max(took, 1)));
	return (span * BigInt(Math.round(factor * 1_000))) / 1_000n || 1n;
}

/**
 * Counts the values of a field that has more than are kept in memory, all at once: then PostgreSQL can say which are the most
 * frequent.
 *
 * @param counted all that was counted
 * @param until by `performance.now`
 * @returns undefined if time was over before
 */
export async function countWide(
	client: pg.PoolClient,
	{ search, tally }: Work,
	field: FieldNumber,
	{ counted, top, until }: { readonly counted: Window; readonly top: number; readonly until: number },
): Promise<Found | undefined> {
	const statement = topStatement(search, field, counted, top);
	const rows = await rowsWithin(client, statement, until - performance.now());
	if (!rows) return undefined;
	const groups = rows.map(statement.groupOf);
	const values = groups.filter((group) => !isAbsent(field, group.values)).slice(0, top);
	const absent = groups.find((group) => isAbsent(field, group.values))?.count ?? 0;
	const shown = values.reduce((sum, { count }) => sum + count, 0);
	const distinct = Number(rows[0]?.at(-1) ?? 0) - (absent > 0 ? 1 : 0);
	return { values, absent, other: tally.total - absent - shown, otherValues: distinct - values.length };
}

/** @returns undefined if it was not done in that time: the transaction is as it was before */
async function rowsWithin(
	client: pg.PoolClient,
	{ query }: CountStatement,
	millis: number,
): Promise<unknown[][] | undefined> {
	if (millis < LEAST_MS) return undefined;
	await client.query(`SAVEPOINT piece; SET LOCAL statement_timeout = ${Math.ceil(millis)}`);
	const rows = await client.query<unknown[]>(query).then(
		(result) => result.rows,
		(error: unknown) => {
			if (isTimeOver(error)) return undefined;
			throw error;
		},
	);
	await takeBackLimit(client);
	return rows;
}

/** The limit goes with the savepoint it was set after. Until it is gone it holds for this statement, too. */
async function takeBackLimit(client: pg.PoolClient): Promise<void> {
	for (let tries = 1; ; tries += 1) {
		try {
			await client.query("ROLLBACK TO SAVEPOINT piece; RELEASE SAVEPOINT piece");
			return;
		} catch (error) {
			if (!isTimeOver(error) || tries === 10) throw error;
		}
	}
}

function isTimeOver(error: unknown): boolean {
	return error instanceof pg.DatabaseError && error.code === "57014";
}
