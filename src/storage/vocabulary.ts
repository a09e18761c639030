import type { Micros } from "../event/event.ts";
import { asUnavailable, type Database } from "./db.ts";
import { isDataError } from "./insert.ts";
import type { EventRow } from "./row.ts";

/** So many of a tenant's month are listed; one with more is not worth listing. */
const MOST_OF_MONTH = 5_000;
/** So many are put down by one statement: none takes long. */
const AT_ONCE = 2_000;
/** So many are remembered. What is forgotten is put down again, which changes nothing. */
const MOST_KNOWN = 200_000;

/** A row of `audit.vocabulary`. */
interface Entry {
	readonly tenantId: string;
	/** As `2026-11`. */
	readonly month: string;
	readonly action: string;
	readonly category: number;
	readonly actorType: number;
	readonly source: string | null;
	readonly resourceType: string | null;
	readonly relatedType: string | null;
}

/** Stands for every combination. */
const ANYTHING = { action: "*", category: 0, actorType: 0, source: null, resourceType: null, relatedType: null };

/**
 * Puts down which shapes of events (actions, categories, sources and types together) occur in which of a tenant's months, before
 * the first event of a shape is stored. Searches do not look for what is not put down.
 */
export class Vocabulary {
	readonly #db: Database;
	/** By tenant and month. */
	readonly #known = new Map<string, Set<string>>();
	#knownCount = 0;

	constructor(db: Database) {
		this.#db = db;
	}

	/** @param monthOf as `2026-11` @throws AuditError unavailable */
	async ensure(rows: readonly EventRow[], monthOf: (time: Micros) => string): Promise<void> {
		/** By place, and by text: as what is known. */
		const missing = new Map<string, Map<string, Entry>>();
		for (const row of rows) {
			const month = monthOf(row.event.occurredAt);
			const place = placeOf(row.event.tenantId, month);
			const known = this.#known.get(place);
			if (known?.has(ANYTHING_TEXT)) continue;
			const added = missing.get(place) ?? new Map<string, Entry>();
			for (const entry of added.has(ANYTHING_TEXT) ? [] : entriesOf(row, month)) {
				const text = textOf(entry);
				if (!known?.has(text)) added.set(text, entry);
			}
			if (added.size === 0) continue;
			// One batch can have a new word in each place of each event: it must not take seconds to put them down.
			const [first] = added.values();
			const isFull = (known?.size ?? 0) + added.size > MOST_OF_MONTH;
			missing.set(place, first && isFull ? new Map([[ANYTHING_TEXT, { ...first, ...ANYTHING }]]) : added);
		}
		const entries = [...missing.values()].flatMap((added) => [...added.values()]);
		if (entries.length === 0) return;
		// What was put down before an error stays: whoever tries again has less to do.
		for (let n = 0; n < entries.length; n += AT_ONCE) {
			const some = entries.slice(n, n + AT_ONCE);
			await this.#add(some);
			for (const entry of some) this.#remember(entry);
		}
	}

	/** After PostgreSQL said that a partition is missing: what is known is no longer true. */
	forget(): void {
		this.#known.clear();
		this.#knownCount = 0;
	}

	/** What PostgreSQL refuses is left out alone: the event that has it will be refused, too. */
	async #add(entries: readonly Entry[]): Promise<void> {
		try {
			await this.#db.maintainer.query(ADD, [
				entries.map(({ tenantId }) => tenantId),
				entries.map(({ month }) => `${month}-01`),
				entries.map(({ action }) => action),
				entries.map(({ category }) => category),
				entries.map(({ actorType }) => actorType),
				entries.map(({ source }) => source),
				entries.map(({ resourceType }) => resourceType),
				entries.map(({ relatedType }) => relatedType),
			]);
		} catch (error) {
			if (!isDataError(error)) throw asUnavailable(error);
			if (entries.length === 1) return;
			const middle = entries.length >> 1;
			await this.#add(entries.slice(0, middle));
			await this.#add(entries.slice(middle));
		}
	}

	#remember(entry: Entry): void {
		if (this.#knownCount >= MOST_KNOWN) this.forget();
		const place = placeOf(entry.tenantId, entry.month);
		const known = this.#known.get(place) ?? new Set();
		this.#known.set(place, known.add(textOf(entry)));
		this.#knownCount += 1;
	}
}

/**
 * What is there already stays as it is. In one order, whatever that of the events: two services that put down the same wait for
 * one another, and never each for the other.
 */
const ADD = `
	INSERT INTO audit.vocabulary (tenant_id, month, action, category, actor_type, source, resource_type, related_type)
	SELECT * FROM unnest($1::text[], $2::date[], $3::text[], $4::integer[], $5::integer[], $6::text[], $7::text[], $8::text[])
	ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
	ON CONFLICT DO NOTHING`;

function placeOf(tenantId: string, month: string): string {
	return `${month} ${tenantId}`;
}

const ANYTHING_TEXT = textOf(ANYTHING);

/** No word of an event holds a line break. */
function textOf(entry: Omit<Entry, "tenantId" | "month">): string {
	const { action, category, actorType, source, resourceType, relatedType } = entry;
	return `${action}\n${category}\n${actorType}\n${source ?? "\n"}\n${resourceType ?? "\n"}\n${relatedType ?? "\n"}`;
}

/** One for the event, and one for each type among its related resources. */
function entriesOf({ event, projection }: EventRow, month: string): Entry[] {
	const { category, actor_type: actorType, source, resource_type: resourceType } = projection;
	const { action, tenantId, units } = event;
	const entry = { tenantId, month, action, category, actorType, source, resourceType, relatedType: null };
	if (!units.resources?.includes('"related_resources":')) return [entry];
	const { related_resources: related = [] } = JSON.parse(units.resources) as {
		related_resources?: { type?: string }[];
	};
	const types = new Set(related.map(({ type }) => type ?? null));
	return [entry, ...[...types].map((relatedType) => ({ ...entry, relatedType }))];
}
