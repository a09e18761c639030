import type { Micros } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { asUnavailable, type Database } from "./db.ts";

/** Makes the monthly partitions events go to: ahead of time, and on demand for old events. */
export class Partitions {
	readonly #db: Database;
	/** Months known to exist, as `2026-11`. */
	readonly #known = new Set<string>();

	constructor(db: Database) {
		this.#db = db;
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
	}
}

function monthOf(time: Micros): string {
	return new Date(Number(time / 1000n)).toISOString().slice(0, 7);
}
