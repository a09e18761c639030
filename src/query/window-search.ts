import type { PoolClient, QueryResultRow } from "pg";
import type { Micros } from "../event/event.ts";
import { endOf, isBefore, type Listed, listedBy, type Place } from "./candidates.ts";
import type { Window } from "./conditions.ts";
import { omitsReads, type Search } from "./filter.ts";
import { FILTER_NAMES, type FilterName } from "./filter-table.ts";
import type { Cursor } from "./page-token.ts";
import { type Source, shapesIn, sourcesOf } from "./sources.ts";
import { type Candidates, type Found, type Wanted, windowStatement } from "./window-statement.ts";

/** A window's next rows, in order. */
export interface Step<Row> {
	readonly rows: Found<Row>[];
	/** All up to this event has been looked at. Undefined: all of the window, unless `rows` are as many as were wanted. */
	readonly reached: Cursor | undefined;
}

/** So many candidates are looked at first, or a page's rows if they are more; then four times as many, up to the most. */
const FIRST_CANDIDATES = 51;
const MOST_CANDIDATES = 4_096;

/**
 * A search within one window, step by step: nothing in it takes long, whatever is searched for, and however much there is.
 *
 * At first every source is asked for its next few candidates. One that has no more than these settles the window. Else that is
 * gone on with which got furthest: it is the rarest; and if none got further than going through the events one by one does,
 * these are gone through. Nothing depends on what PostgreSQL guesses of how often values occur.
 */
export class WindowSearch<Row extends QueryResultRow> {
	readonly #client: PoolClient;
	readonly #search: Search;
	readonly #window: Window;
	#sources: readonly Source[] = [];
	/** What to go on with, once that is known. */
	#chosen: Source | "walk" | undefined;
	#count = 0;

	constructor(client: PoolClient, search: Search, window: Window) {
		this.#client = client;
		this.#search = search;
		this.#window = window;
	}

	/** The rows after `cursor`. @throws pg's errors */
	async next(cursor: Cursor | undefined, wanted: Wanted): Promise<Step<Row>> {
		const place = { search: this.#search, window: clipped(this.#window, cursor, this.#search), cursor };
		const find = async (candidates?: Candidates) => {
			const statement = windowStatement(this.#search, place.window, cursor, wanted, candidates);
			return (await this.#client.query<Found<Row>>(statement)).rows;
		};
		if (!isSelective(this.#search)) return { rows: await find(), reached: undefined };
		this.#count =
			this.#count === 0 ? Math.max(FIRST_CANDIDATES, 2 * wanted.rows) : Math.min(this.#count * 4, MOST_CANDIDATES);
		const listed = this.#chosen === "walk" ? undefined : await this.#choose(place);
		if (listed) return { rows: listed.places.length > 0 ? await find(listed) : [], reached: listed.reached };
		const rows = await find({ first: this.#count });
		return { rows, reached: rows.length >= wanted.rows ? undefined : await endOf(this.#client, place, this.#count) };
	}

	/** @returns undefined if the events are to be gone through one by one */
	async #choose(place: Place): Promise<Listed | undefined> {
		if (!this.#chosen) {
			const shapes = await shapesIn(this.#client, this.#search, this.#window);
			if (shapes?.length === 0) return { places: [], reached: undefined };
			this.#sources = sourcesOf(this.#search, shapes);
		}
		let best: Listed | undefined;
		const wasChosen = this.#chosen;
		for (const source of wasChosen ? [wasChosen as Source] : this.#sources) {
			const listed = await listedBy(this.#client, place, source, this.#count);
			if (!listed) continue;
			if (!listed.reached) return listed;
			if (best?.reached && !isBefore(best.reached, listed.reached, this.#search)) continue;
			[best, this.#chosen] = [listed, source];
		}
		if (best && (wasChosen || this.#isSure())) return best;
		const end = best && (await endOf(this.#client, place, this.#count));
		if (best?.reached && end && !isBefore(best.reached, end, this.#search)) return best;
		this.#chosen = "walk";
		return undefined;
	}

	/** What one list holds is never more than all there is. */
	#isSure(): boolean {
		return this.#sources.some(({ lists, linked }) => !linked && lists.length === 1 && lists[0]?.values.length === 1);
	}
}

/** Filters that leave whole stretches of events out, or all but a moment's. */
const NOT_SELECTIVE: ReadonlySet<FilterName> = new Set(["occurredAfter", "occurredBefore", "includeReads", "ids"]);

function isSelective(search: Search): boolean {
	if (search.ids) return false;
	// Those that tell of reads can be most of a tenant's events.
	return omitsReads(search) || FILTER_NAMES.some((name) => search[name] !== undefined && !NOT_SELECTIVE.has(name));
}

/** What is left of a window, to the microsecond. */
function clipped(window: Window, cursor: Cursor | undefined, { newestFirst }: Search): Window {
	if (!cursor) return window;
	const { occurredAt } = cursor;
	if (!newestFirst) return { from: occurredAt > window.from ? occurredAt : window.from, to: window.to };
	const end = (occurredAt + 1n) as Micros;
	return { from: window.from, to: end < window.to ? end : window.to };
}
