import type { PoolClient } from "pg";
import type { Micros } from "../event/event.ts";
import { type Candidates, candidatesOf, isBefore, type Place, walked } from "./candidates.ts";
import type { Window } from "./conditions.ts";
import type { Search } from "./filter.ts";
import { FILTER_NAMES, type FilterName } from "./filter-table.ts";
import type { Cursor } from "./page-token.ts";
import { type Source, shapesIn, sourcesOf } from "./sources.ts";
import { type FoundRow, type WindowLimits, windowStatement } from "./window-statement.ts";

/** A window's next rows, in order. */
export interface Step {
	readonly rows: FoundRow[];
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
export class WindowSearch {
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
	async next(cursor: Cursor | undefined, wanted: WindowLimits): Promise<Step> {
		const place = { search: this.#search, window: clipped(this.#window, cursor, this.#search), cursor };
		this.#count =
			this.#count === 0 ? Math.max(FIRST_CANDIDATES, wanted.rows) : Math.min(this.#count * 4, MOST_CANDIDATES);
		const candidates = isSelective(this.#search) ? await this.#choose(place) : undefined;
		if (candidates?.places?.length === 0) return { rows: [], reached: candidates.reached };
		const { rows } = await this.#client.query<FoundRow>(
			windowStatement(this.#search, place.window, cursor, wanted, candidates),
		);
		return { rows, reached: candidates?.reached };
	}

	async #choose(place: Place): Promise<Candidates> {
		if (!this.#chosen) {
			const shapes = await shapesIn(this.#client, this.#search, this.#window);
			if (shapes?.length === 0) return { places: [], reached: undefined };
			this.#sources = sourcesOf(this.#search, shapes);
		}
		const { sources, walk } = this.#alternatives();
		let best: Candidates | undefined;
		for (const source of sources) {
			const candidates = await candidatesOf(this.#client, place, source, this.#count);
			if (!candidates) continue;
			if (candidates.reached === undefined) return candidates;
			if (best?.reached && !isBefore(best.reached, candidates.reached, this.#search)) continue;
			[best, this.#chosen] = [candidates, source];
		}
		if (best && !walk) return best;
		const next = await walked(this.#client, place, this.#count);
		if (best?.reached && next.reached && !isBefore(best.reached, next.reached, this.#search)) return best;
		this.#chosen = "walk";
		return next;
	}

	#alternatives(): { sources: readonly Source[]; walk: boolean } {
		if (this.#chosen === "walk") return { sources: [], walk: true };
		if (this.#chosen) return { sources: [this.#chosen], walk: false };
		// What one list holds is never more than all there is.
		const isSure = this.#sources.some(
			({ lists, linked }) => !linked && lists.length === 1 && lists[0]?.values.length === 1,
		);
		return { sources: this.#sources, walk: !isSure };
	}
}

/** Filters that leave whole stretches of events out, or all but a moment's. */
const NOT_SELECTIVE: ReadonlySet<FilterName> = new Set(["occurredAfter", "occurredBefore", "includeReads", "ids"]);

function isSelective(search: Search): boolean {
	if (search.ids) return false;
	return FILTER_NAMES.some((name) => search[name] !== undefined && !NOT_SELECTIVE.has(name));
}

/** What is left of a window, to the microsecond. */
function clipped(window: Window, cursor: Cursor | undefined, { newestFirst }: Search): Window {
	if (!cursor) return window;
	const { occurredAt } = cursor;
	if (!newestFirst) return { from: occurredAt > window.from ? occurredAt : window.from, to: window.to };
	const end = (occurredAt + 1n) as Micros;
	return { from: window.from, to: end < window.to ? end : window.to };
}
