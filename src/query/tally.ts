import { COUNTED_FIELDS, type FieldNumber } from "./aggregate-fields.ts";
import type { Group } from "./count-statement.ts";

/** How often each value of a field was found, all of them or the most frequent ones. */
export interface Found {
	readonly values: readonly Counted[];
	readonly other: number;
	readonly otherValues: number;
	readonly absent: number;
}

export interface Counted {
	/** One for each of the field's columns. */
	readonly values: readonly (string | null)[];
	readonly count: number;
}

/**
 * Adds up what is counted piece by piece. Exact sums need all values of every piece, so all are kept, up to a bound: above it
 * the field with the most is let go of (`wide`), and has to be counted in another way.
 */
export class Tally {
	/** By the buckets' places, from 1. */
	readonly #buckets: number[];
	readonly #fields: Map<FieldNumber, Map<string, { values: Group["values"]; count: number }>>;
	readonly #wide = new Set<FieldNumber>();
	readonly #most: number;
	#total = 0;
	#kept = 0;

	/** @param most how many values are kept, of all fields together */
	constructor(fields: readonly FieldNumber[], buckets: number, most: number) {
		this.#fields = new Map(fields.map((field) => [field, new Map()]));
		this.#buckets = Array.from({ length: buckets + 1 }, () => 0);
		this.#most = most;
	}

	get total(): number {
		return this.#total;
	}

	/** The fields that are still counted here. */
	get narrow(): FieldNumber[] {
		return [...this.#fields.keys()];
	}

	/** The fields that were let go of. */
	get wide(): FieldNumber[] {
		return [...this.#wide];
	}

	/** How many events are in each bucket, the first one's first. */
	get buckets(): readonly number[] {
		return this.#buckets.slice(1);
	}

	/** All groups of a piece; of a field one more than are kept, if there are that many. */
	add(groups: readonly Group[]): void {
		for (const { of, values, count } of groups) {
			if (typeof of !== "number") {
				this.#total += count;
				if (of === "bucket") this.#buckets[Number(values[0])] = (this.#buckets[Number(values[0])] ?? 0) + count;
			} else this.#addTo(of, values, count);
		}
	}

	#addTo(field: FieldNumber, values: Group["values"], count: number): void {
		const known = this.#fields.get(field);
		if (!known) return;
		const key = JSON.stringify(values);
		const same = known.get(key);
		if (same) same.count += count;
		else {
			known.set(key, { values, count });
			this.#kept += 1;
			if (this.#kept > this.#most) this.#letGo();
		}
	}

	#letGo(): void {
		const [[field, values] = []] = [...this.#fields].sort(([, a], [, b]) => b.size - a.size);
		if (field === undefined || !values) return;
		this.#kept -= values.size;
		this.#fields.delete(field);
		this.#wide.add(field);
	}

	/** @returns undefined if the field was let go of */
	found(field: FieldNumber, top: number): Found | undefined {
		const known = this.#fields.get(field);
		if (!known) return undefined;
		const { names } = COUNTED_FIELDS[field];
		const counted = [...known.values()];
		const absent = sum(counted.filter(({ values }) => isAbsent(field, values)));
		const present = counted.filter(({ values }) => !isAbsent(field, values));
		present.sort((a, b) => b.count - a.count || (names ? byNumber : byBytes)(a.values, b.values));
		const rest = present.slice(top);
		return { values: present.slice(0, top), other: sum(rest), otherValues: rest.length, absent };
	}
}

/** An enum's zero says that an event does not have it. */
export function isAbsent(field: FieldNumber, values: Group["values"]): boolean {
	return values.every((value) => value === null || (COUNTED_FIELDS[field].names !== undefined && value === "0"));
}

function sum(counted: readonly { count: number }[]): number {
	return counted.reduce((total, { count }) => total + count, 0);
}

function byNumber([a]: Group["values"], [b]: Group["values"]): number {
	return Number(a) - Number(b);
}

/** As PostgreSQL sorts them: column by column, what is absent before what is not. */
function byBytes(a: Group["values"], b: Group["values"]): number {
	for (const [i, text] of a.entries()) {
		const other = b[i] ?? null;
		if (text === other) continue;
		if (text === null || other === null) return text === null ? -1 : 1;
		return Buffer.compare(Buffer.from(text), Buffer.from(other));
	}
	return 0;
}
