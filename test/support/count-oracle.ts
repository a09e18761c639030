import type { DescEnum } from "@bufbuild/protobuf";
import { microsOf } from "../../src/event/time.ts";
import { AggregateField, type AggregateResponse } from "../../src/gen/audit/v1/audit_service_pb.ts";
import {
	ActorTypeSchema,
	CategorySchema,
	type Event,
	OutcomeSchema,
	SeveritySchema,
} from "../../src/gen/audit/v1/event_pb.ts";

/** What counting means, in plain JavaScript over what was written: the contract's words once more. */

type Value = string | number | readonly [type: string, id: string];

interface Meaning {
	readonly of: (event: Event) => Value;
	readonly names?: DescEnum;
}

/** What an event has of each field; empty, zero, or both parts empty: it does not have it. */
const MEANINGS: Partial<Record<AggregateField, Meaning>> = {
	[AggregateField.ACTION]: { of: ({ action }) => action },
	[AggregateField.CATEGORY]: { of: ({ category }) => category, names: CategorySchema },
	[AggregateField.SEVERITY]: { of: ({ severity }) => severity || 2, names: SeveritySchema },
	[AggregateField.OUTCOME]: { of: ({ outcome }) => outcome || 1, names: OutcomeSchema },
	[AggregateField.SOURCE]: { of: ({ source }) => source },
	[AggregateField.ACTOR_ID]: { of: ({ actor }) => actor?.id ?? "" },
	[AggregateField.ACTOR_EMAIL]: { of: ({ actor }) => actor?.email ?? "" },
	[AggregateField.ACTOR_TYPE]: { of: ({ actor }) => actor?.type ?? 0, names: ActorTypeSchema },
	[AggregateField.RESOURCE_TYPE]: { of: ({ primaryResource }) => primaryResource?.type ?? "" },
	[AggregateField.RESOURCE_ID]: { of: ({ primaryResource }) => primaryResource?.id ?? "" },
	[AggregateField.RESOURCE]: {
		of: ({ primaryResource }) => [primaryResource?.type ?? "", primaryResource?.id ?? ""],
	},
};

export const FIELDS = Object.keys(MEANINGS).map(Number) as AggregateField[];

/** A field's counts as an answer has them, of these events. */
export function countsOf(field: AggregateField, events: readonly Event[], top: number): object {
	const { of, names } = MEANINGS[field] as Meaning;
	const groups = [...Map.groupBy(events, (event) => JSON.stringify(of(event)))].map(([key, found]) => ({
		value: JSON.parse(key) as Value,
		count: found.length,
	}));
	const isAbsent = (value: Value) => value === 0 || [value].flat().every((part) => part === "");
	const absent = groups.find(({ value }) => isAbsent(value))?.count ?? 0;
	const present = groups.filter(({ value }) => !isAbsent(value));
	present.sort((a, b) => b.count - a.count || compare(a.value, b.value));
	const rest = present.slice(top);
	return {
		field,
		values: present.slice(0, top).map(({ value, count }) => ({ ...spelt(value, names), count: BigInt(count) })),
		other: BigInt(rest.reduce((sum, { count }) => sum + count, 0)),
		otherValues: BigInt(rest.length),
		absent: BigInt(absent),
		complete: true,
	};
}

function compare(a: Value, b: Value): number {
	if (typeof a === "number" && typeof b === "number") return a - b;
	const [left, right] = [[a].flat(), [b].flat()];
	const different = left.findIndex((part, i) => part !== right[i]);
	return Buffer.compare(Buffer.from(String(left[different])), Buffer.from(String(right[different])));
}

function spelt(value: Value, names: DescEnum | undefined) {
	if (typeof value === "object") return { value: value[1], resourceType: value[0] };
	const text = typeof value === "number" ? (names?.value[value]?.name ?? String(value)) : value;
	return { value: text, resourceType: "" };
}

/** An answer's fields as plain objects, to be compared with `countsOf`. */
export function fieldsIn({ fields }: AggregateResponse): object[] {
	return fields.map(({ field, values, other, otherValues, absent, complete }) => ({
		field,
		values: values.map(({ value, resourceType, count }) => ({ value, resourceType, count })),
		other,
		otherValues,
		absent,
		complete,
	}));
}

/** How many of these times are in each bucket of an answer, beside how many it says there are. */
export function bucketsIn({ buckets }: AggregateResponse, times: readonly bigint[]): { said: bigint; are: bigint }[] {
	return buckets.map(({ start, end, count }) => {
		const [from, to] = [start, end].map((time) => (time ? microsOf(time) : 0n));
		return { said: count, are: BigInt(times.filter((at) => at >= (from ?? 0n) && at < (to ?? 0n)).length) };
	});
}
