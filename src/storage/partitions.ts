import type { Micros } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { asUnavailable, type Database } from "./db.ts";
import type { EventRow } from "./row.ts";
import { Vocabulary } from "./vocabulary.ts";

/** Makes the monthly partitions events go to, ahead of time and on demand for old events, and keeps their vocabulary. */
export class Partitions {
	readonly #db: Database;
	/** Months known to exist, as `2026-11`. */
	readonly #known = new Set<string>();
	readonly #vocabulary: Vocabulary;

	constructor(db: Database) {
		this.#db = db;
		this.#vocabulary = new Vocabulary(db);
	}

	/** Makes sure of all that must be there before these rows can be stored and found. On a connection of its own. */
	async ensureFor(rows: readonly EventRow[]): Promise<void> {
		await this.ensure(rows.map(({ event }) => event.occurredAt));
		await this.#vocabulary.ensure(rows, monthOf);
	}

	/** Makes sure that the months of these times have their partitions. */
	async ensure(times: Iterable<Micros>): Promise<void> {
		const missing = new Map<string, Micros>();
		for (const time of times) {
			const month = monthOf(time);
			if (!this.#known.has(month)) missing.set(month, time);
		}
		for (const [month, time] of missing) {
			try {
				await this.#db.maintainer.query("SELECT audit.ensure_partition($1)", [rfc3339(time)]);
			} catch (error) {
				throw asUnavailable(error);
			}
			this.#known.add(month);
		}
	}

	/** Makes this month's partition and the next one's. */
	async ensureAhead(now: Date): Promise<void> {
		const next = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1);
		await this.ensure([now.getTime(), next].map((millis) => (BigInt(millis) * 1000n) as Micros));
	}

	/** How many months after this one have partitions, as far as is known; -1: not even this one has. */
	monthsAhead(now: Date): number {
		let ahead = -1;
		const month = (n: number) =>
			new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + n, 1)).toISOString().slice(0, 7);
		while (this.#known.has(month(ahead + 1))) ahead += 1;
		return ahead;
	}

	/** After PostgreSQL said that a partition is missing: what is known is no longer true. */
	forget(): void {
		this.#known.clear();
		this.#vocabulary.forget();
	}
}

function monthOf(time: Micros): string {
	return new Date(Number(time / 1000n)).toISOString().slice(0, 7);
}
