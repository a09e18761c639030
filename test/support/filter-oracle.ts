import { create, type DescEnum, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { type Micros } from "../../src/event/event.ts";
import { rfc3339, timestampOf } from "../../src/event/time.ts";
import { type QueryRequest, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { Actor, Event, ResourceRef } from "../../src/gen/audit/v1/event_pb.ts";
import { hasWords } from "./words-oracle.ts";

/**
 * What every filter means, in plain JavaScript over what was written: the contract's words once more, for tests to compare
 * the service with.
 */

/** An event that was written and what the service answered. Times are microseconds since 1970. */
export interface Written {
	readonly event: Event;
	readonly id: string;
	readonly occurredAt: bigint;
	readonly recordedAt: bigint;
}

/** A filter's value: a time, a text, yes, or a list of texts or enum numbers. */
export type Value = bigint | string | true | string[] | number[];
/** By the fields' names in the contract. */
export type Given = Record<string, Value>;

interface Meaning {
	/** The option of `auditlog query`. */
	readonly option: string;
	matches(written: Written, value: never, given: Given): boolean;
	/** Values to search for, some of which were written. */
	values(written: readonly Written[]): fc.Arbitrary<Value>;
}

/** Few, so that they meet; and such as must not mean anything to SQL, LIKE, JSON, arrays or URLs. */
export const TEXTS = [
	"u1",
	'a"b',
	"100%",
	"a_b",
	"axb",
	"A_B",
	"a\\b",
	"é😀",
	"' OR true --",
	"$1",
	"{x,y}",
	"a,b",
	"a b+c&d=1",
];
export const EMAILS = ["", "jane@example.com", "Jane@example.com", "j%@example.com", "j_ne@example.com", "''@\"\\"];
export const ACTIONS = ["user.login", "user.logout", "user-x", "user_x", "file.read", "user."];

export const MEANINGS: Record<string, Meaning> = {
	occurred_after: {
		option: "--since",
		matches: ({ occurredAt }, from: bigint) => occurredAt >= from,
		values: (written) => near(written.map(({ occurredAt }) => occurredAt)),
	},
	occurred_before: {
		option: "--until",
		matches: ({ occurredAt }, to: bigint) => occurredAt < to,
		values: (written) => near(written.map(({ occurredAt }) => occurredAt)),
	},
	recorded_after: {
		option: "--recorded-since",
		matches: ({ recordedAt }, from: bigint) => recordedAt >= from,
		values: (written) => near(written.map(({ recordedAt }) => recordedAt)),
	},
	recorded_before: {
		option: "--recorded-until",
		matches: ({ recordedAt }, to: bigint) => recordedAt < to,
		values: (written) => near(written.map(({ recordedAt }) => recordedAt)),
	},
	actor_ids: {
		option: "--actor",
		matches: ({ event }, ids: string[]) => ids.includes(event.actor?.id ?? ""),
		values: () => some([...TEXTS, "%", "_"]),
	},
	actor_emails: {
		option: "--actor-email",
		matches: ({ event }, emails: string[]) => emails.includes(event.actor?.email ?? ""),
		values: () => some([...EMAILS.slice(1), "%", "JANE@EXAMPLE.COM"]),
	},
	actor_types: {
		option: "--actor-type",
		matches: ({ event }, types: number[]) => types.includes(event.actor?.type ?? 0),
		values: () => some([0, 1, 3, 77, 5]),
	},
	actions: {
		option: "--action",
		matches: isNamed,
		values: () => some([...ACTIONS, "user.*", "user*", "user_*", "user-*", "u*", "*", "a*", "absent"]),
	},
	categories: {
		option: "--category",
		matches: ({ event }, wanted: number[]) => wanted.includes(event.category),
		values: () => some([0, 1, 4711, 3]),
	},
	severities: {
		option: "--severity",
		matches: ({ event }, wanted: number[]) => wanted.includes(event.severity || 2),
		values: () => some([2, 3, 99, 7]),
	},
	outcomes: {
		option: "--outcome",
		matches: ({ event }, wanted: number[]) => wanted.includes(event.outcome || 1),
		values: () => some([1, 3, -5, 4]),
	},
	not_actions: {
		option: "--not-action",
		matches: (written, wanted: string[]) => !isNamed(written, wanted),
		values: () => some([...ACTIONS, "user.*", "user_*", "u*", "*", "absent"]),
	},
	not_actor_ids: {
		option: "--not-actor",
		matches: ({ event }, ids: string[]) => event.actor === undefined || !ids.includes(event.actor.id),
		values: () => some([...TEXTS, "%"]),
	},
	actor_or_on_behalf_of_ids: {
		option: "--by-or-for",
		matches: ({ event }, ids: string[]) => actorsOf(event).some(({ id }) => ids.includes(id)),
		values: () => some([...TEXTS, "%", "_"]),
	},
	touching_ids: {
		option: "--touching",
		matches: ({ event }, ids: string[]) =>
			[...actorsOf(event), ...resourcesOf(event)].some(({ id }) => ids.includes(id)),
		values: () => some([...TEXTS, "%", "_"]),
	},
	text: {
		option: "--text",
		matches: ({ event }, text: string) => hasWords(textOf(event), text),
		values: () =>
			fc
				.uniqueArray(
					fc.constantFrom("u1", "A", "b", "100", "axb", "é", "e", "user", "LOGIN", "log*", "x*", "東", "東京", "x"),
					{
						minLength: 1,
						maxLength: 3,
					},
				)
				.map((words) => words.join(" . ")),
	},
	sources: {
		option: "--source",
		matches: ({ event }, wanted: string[]) => wanted.includes(event.source),
		values: () => some(["api", "sl%k", "slack", "%"]),
	},
	resource_type: {
		option: "--resource-type",
		matches: ({ event }, _type: string, given) => resourcesOf(event).some((resource) => isMeant(resource, given)),
		values: () => fc.constantFrom("file", 'q"t', "folder", "absent"),
	},
	resource_id: {
		option: "--resource-id",
		matches: ({ event }, _id: string, given) => resourcesOf(event).some((resource) => isMeant(resource, given)),
		values: () => fc.constantFrom(...TEXTS, "%"),
	},
	request_id: {
		option: "--request-id",
		matches: ({ event }, id: string) => event.context?.requestId === id,
		values: () => fc.constantFrom(...TEXTS, "%"),
	},
	trace_id: {
		option: "--trace-id",
		matches: ({ event }, id: string) => event.context?.traceId === id,
		values: () => fc.constantFrom(...TEXTS, "_"),
	},
	ids: {
		option: "--id",
		matches: ({ id }, wanted: string[]) => wanted.some((each) => each.toLowerCase() === id),
		values: (written) => {
			const id = fc.constantFrom(...new Set(written.map((each) => each.id)));
			const spelt = fc.oneof(
				id,
				id.map((each) => each.toUpperCase()),
				fc.uuid(),
			);
			return fc.array(spelt, { minLength: 1, maxLength: 12 });
		},
	},
	// Of what was written nothing more or less is found; what the service wrote is for the doors to tell apart.
	include_reads: { option: "--include-reads", matches: () => true, values: () => fc.constant(true) },
};

/** Up to four filters together, none of them a range that ends before it begins. */
export function anyFilters(written: readonly Written[]): fc.Arbitrary<Given> {
	const reversed = (given: Given, which: string) => {
		const [from, to] = [given[`${which}_after`], given[`${which}_before`]];
		return from !== undefined && to !== undefined && to < from;
	};
	return fc
		.subarray(Object.entries(MEANINGS), { maxLength: 4 })
		.chain((chosen) => fc.record(Object.fromEntries(chosen.map(([name, meaning]) => [name, meaning.values(written)]))))
		.filter((given) => !reversed(given, "occurred") && !reversed(given, "recorded"));
}

/** All of what was written that is searched for, in order. */
export function expected(written: readonly Written[], given: Given, newestFirst: boolean): string[] {
	const found = written.filter((each) =>
		Object.entries(given).every(([name, value]) => MEANINGS[name]?.matches(each, value as never, given)),
	);
	found.sort((a, b) => (a.occurredAt === b.occurredAt ? (a.id < b.id ? -1 : 1) : a.occurredAt < b.occurredAt ? -1 : 1));
	return (newestFirst ? found.reverse() : found).map(({ occurredAt, id }) => keyOf(rfc3339(occurredAt as Micros), id));
}

export function keyOf(occurredAt: unknown, id: unknown): string {
	return `${String(occurredAt)} ${String(id)}`;
}

type Init = MessageInitShape<typeof QueryRequestSchema>;

/** A search as an RPC has it, with what else there is to a request. */
export function requestOf(given: Given, rest: Init = {}): QueryRequest {
	const filters = Object.entries(given).map(([name, value]) => {
		return [fieldOf(name).localName, typeof value === "bigint" ? timestampOf(value as Micros) : value];
	});
	return create(QueryRequestSchema, { ...(Object.fromEntries(filters) as Init), ...rest } as Init);
}

/** A search as REST has it. */
export function paramsOf(given: Given): [string, string][] {
	const nameOf = (desc: DescEnum, number: number) => desc.value[number]?.name ?? String(number);
	return Object.entries(given).flatMap(([name, value]) =>
		textsOf(name, value, nameOf).map((text): [string, string] => [name, text]),
	);
}

/** A search as options of the command line, which have no words for numbers without a name. */
export function optionsOf(given: Given): string[] {
	const wordOf = (desc: DescEnum, number: number) => {
		const name = desc.value[number]?.name ?? "";
		return name.toLowerCase().replace(desc.sharedPrefix ?? "", "");
	};
	return Object.entries(given).flatMap(([name, value]) =>
		value === true
			? [MEANINGS[name]?.option ?? ""]
			: textsOf(name, value, wordOf).map((text) => `${MEANINGS[name]?.option}=${text}`),
	);
}

export function hasNamesOnly(given: Given): boolean {
	return Object.entries(given).every(
		([name, value]) =>
			!Array.isArray(value) || value.every((item) => typeof item === "string" || fieldOf(name).enum?.value[item]),
	);
}

function textsOf(name: string, value: Value, enumText: (desc: DescEnum, number: number) => string): string[] {
	if (typeof value === "bigint") return [rfc3339(value as Micros)];
	if (typeof value === "string" || value === true) return [String(value)];
	const desc = fieldOf(name).enum;
	return value.map((item) => (typeof item === "number" && desc ? enumText(desc, item) : String(item)));
}

function fieldOf(name: string) {
	const field = QueryRequestSchema.fields.find((candidate) => candidate.name === name);
	if (!field) throw new Error(`a search has no field ${name}`);
	return field;
}

function some<T extends string | number>(values: readonly T[]): fc.Arbitrary<T[]> {
	return fc.shuffledSubarray([...values], { minLength: 1, maxLength: 4 });
}

/** At some time of these, a microsecond before or after it, or ages away. */
function near(times: readonly bigint[]): fc.Arbitrary<bigint> {
	const time = fc.constantFrom(...times);
	const far = fc.constantFrom(-62_135_596_800_000_000n, 253_402_300_799_999_999n);
	return fc.oneof(
		{ weight: 9, arbitrary: fc.tuple(time, fc.bigInt(-1n, 1n)).map(([at, by]) => at + by) },
		{ weight: 1, arbitrary: far },
	);
}

function isNamed({ event: { action } }: Written, wanted: string[]): boolean {
	return wanted.some((name) => (name.endsWith("*") ? action.startsWith(name.slice(0, -1)) : action === name));
}

function actorsOf(event: Event): Actor[] {
	return [...(event.actor ? [event.actor] : []), ...event.onBehalfOf];
}

/** What the words of an event are in. */
function textOf(event: Event): string {
	const names = [...actorsOf(event), ...resourcesOf(event)].map(({ displayName }) => displayName);
	return [event.action, event.description, ...names].join(" ");
}

function resourcesOf(event: Event): ResourceRef[] {
	return [...(event.primaryResource ? [event.primaryResource] : []), ...event.relatedResources];
}

function isMeant({ type, id }: ResourceRef, given: Given): boolean {
	const { resource_type: wantedType = type, resource_id: wantedId = id } = given;
	return type === wantedType && id === wantedId;
}
