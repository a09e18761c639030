import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";

/** Inputs nobody would think of: JSON by its grammar, protobuf by its own and mutated, tokens and parameters. */

/** Stands in values, never in names: no answer may repeat it. */
export const CANARY = "s3cret-value";

const EVENT_NAMES = namesOf(EventSchema);
const QUERY_NAMES = namesOf(QueryRequestSchema);
const INNER_NAMES = ["id", "type", "display_name", "displayName", "role", "ip_address", "old_value", "changed_fields"];
const ODD_NAMES = ["", "__proto__", "constructor", "\\u0000", "\\ud800", "a\\u0301", "x".repeat(300), 'q\\"', "😀"];

/** Texts that are JSON, nearly JSON, or JSON that readers differ about; as an event, a query or neither. */
export function jsonTexts(kind: "event" | "query"): fc.Arbitrary<string> {
	const names = fc.constantFrom(...(kind === "event" ? EVENT_NAMES : QUERY_NAMES), ...INNER_NAMES, ...ODD_NAMES);
	const { value } = fc.letrec<{ value: string; list: string; object: string }>((tie) => ({
		value: fc.oneof(
			{ maxDepth: 5, depthSize: "small", withCrossShrink: true },
			fc.oneof(STRINGS, NUMBERS, fc.constantFrom("true", "false", "null")),
			tie("object"),
			tie("list"),
		),
		list: fc.array(tie("value"), { maxLength: 4 }).map((items) => `[${items.join(",")}]`),
		object: fc
			.array(fc.tuple(names, tie("value")), { maxLength: 5 })
			.map((members) => `{${members.map(([name, member]) => `"${name}":${member}`).join(",")}}`),
	}));
	const top = fc
		.array(fc.tuple(names, value), { maxLength: 8 })
		.map((members) => members.map(([name, member]) => `"${name}":${member}`));
	// Around something good, so that what is odd is reached; and now and then alone.
	const shaped = top.map((members) => `{${[...(kind === "event" ? GOOD_EVENT : GOOD_QUERY), ...members].join(",")}}`);
	const deep = fc
		.tuple(fc.constantFrom('{"a":', "[", '{"metadata":', '{"n":['), fc.integer({ min: 1, max: 300 }))
		.map(([open, times]) => open.repeat(times));
	return fc.oneof({ weight: 12, arbitrary: shaped }, { weight: 4, arbitrary: shaped.chain(mutatedText) }, value, deep);
}

/** Bytes that are an event or a query, were one until something happened to them, or have only the form of fields. */
export function protobufBytes(kind: "event" | "query"): fc.Arbitrary<Uint8Array> {
	const whole = kind === "event" ? events().map((event) => toBinary(EventSchema, event)) : queries();
	return fc.oneof(
		{ weight: 3, arbitrary: whole },
		{ weight: 9, arbitrary: whole.chain(mutatedBytes) },
		{ weight: 3, arbitrary: wireFields(3) },
		fc.uint8Array({ maxLength: 60 }),
	);
}

/** What may stand where a good token stands. */
export function tokensLike(good: string): fc.Arbitrary<string> {
	return fc.oneof(
		{ weight: 6, arbitrary: mutatedBytes(Buffer.from(good, "base64url")).map(toBase64Url) },
		{ weight: 3, arbitrary: mutatedText(good) },
		fc.string({ unit: "binary", maxLength: 120 }),
		fc.base64String({ maxLength: 120 }),
	);
}

/** Events, most of them good: texts and structs of every kind. */
export function events(): fc.Arbitrary<MessageInitShape<typeof EventSchema> & { $typeName: "audit.v1.Event" }> {
	const text = fc.oneof(fc.constant(""), fc.string({ unit: "grapheme", maxLength: 12 }), fc.constant(CANARY));
	const actor = fc.record({ id: text, type: fc.integer({ min: -1, max: 9 }), displayName: text });
	const resource = fc.record({ id: text, type: text, role: text });
	return fc
		.record(
			{
				tenantId: fc.constantFrom("acme", "globex", "", "a b"),
				action: fc.oneof(fc.constant("fuzz.event"), text),
				actor,
				onBehalfOf: fc.array(actor, { maxLength: 2 }),
				primaryResource: resource,
				relatedResources: fc.array(resource, { maxLength: 3 }),
				category: fc.integer({ min: -5, max: 2 ** 31 - 1 }),
				severity: fc.nat(9),
				description: text,
				source: text,
				schemaVersion: fc.nat(),
				occurredAt: fc.record({ seconds: fc.bigInt(-(2n ** 62n), 2n ** 62n), nanos: fc.integer() }),
				context: fc.record({ ipAddress: fc.oneof(text, fc.ipV4(), fc.ipV6()), requestId: text }),
				metadata: fc.dictionary(
					fc.string({ unit: "grapheme", maxLength: 6 }),
					fc.oneof(text, fc.jsonValue({ maxDepth: 3 })),
					{ maxKeys: 4 },
				),
				changes: fc.record({ changedFields: fc.array(text, { maxLength: 3 }) }),
			},
			{ requiredKeys: ["tenantId", "action", "actor"] },
		)
		.map((init) => create(EventSchema, init as MessageInitShape<typeof EventSchema>));
}

/** The URL parameters of a search. */
export function parameters(): fc.Arbitrary<string> {
	const name = fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...QUERY_NAMES) }, fc.string({ maxLength: 8 }));
	const value = fc.oneof(
		fc.constantFrom("SEVERITY_INFO", "7", "-1", "2026-01-31T12:00:00Z", "user.*", "%", CANARY, "99999999999"),
		fc.string({ unit: "binary", maxLength: 20 }),
	);
	const params = fc
		.array(fc.tuple(name, value), { maxLength: 6 })
		.map((pairs) => new URLSearchParams([["tenant_id", "acme"], ...pairs]).toString());
	return fc.oneof(params, params.chain(mutatedText));
}

function queries(): fc.Arbitrary<Uint8Array> {
	const text = fc.oneof(fc.string({ unit: "grapheme", maxLength: 12 }), fc.constant(CANARY));
	return fc
		.record({
			tenantId: fc.constantFrom("acme", "", "a b"),
			actorIds: fc.array(text, { maxLength: 3 }),
			actions: fc.array(fc.oneof(text, fc.constant("user.*")), { maxLength: 3 }),
			severities: fc.array(fc.integer({ min: -1, max: 9 }), { maxLength: 3 }),
			resourceId: text,
			pageSize: fc.integer(),
			pageToken: text,
			order: fc.integer({ min: -1, max: 4 }),
			occurredAfter: fc.record({ seconds: fc.bigInt(-(2n ** 62n), 2n ** 62n), nanos: fc.integer() }),
		})
		.map((init) =>
			toBinary(QueryRequestSchema, create(QueryRequestSchema, init as MessageInitShape<typeof QueryRequestSchema>)),
		);
}

/** Fields by the grammar of the wire: any number, any type, any nesting. */
function wireFields(depth: number): fc.Arbitrary<Uint8Array> {
	const body: fc.Arbitrary<Uint8Array> =
		depth === 0 ? fc.uint8Array({ maxLength: 8 }) : fc.oneof(fc.uint8Array({ maxLength: 8 }), wireFields(depth - 1));
	const field = fc
		.tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 7 }), body)
		.map(([no, type, bytes]) => {
			const tag = varint((no << 3) | type);
			return type === 2 ? [...tag, ...varint(bytes.length), ...bytes] : [...tag, ...bytes];
		});
	return fc.array(field, { maxLength: 5 }).map((fields) => Uint8Array.from(fields.flat()));
}

function mutatedBytes(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
	const place = fc.nat(Math.max(bytes.length - 1, 0));
	const mutation = fc.oneof(
		fc.tuple(place, fc.nat(255)).map(
			([at, byte]) =>
				(all: Uint8Array) =>
					all.with(Math.min(at, all.length - 1), byte),
		),
		fc.tuple(place, fc.nat(7)).map(
			([at, bit]) =>
				(all: Uint8Array) =>
					all.map((byte, i) => (i === at ? byte ^ (1 << bit) : byte)),
		),
		place.map((at) => (all: Uint8Array) => all.slice(0, at)),
		fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 6 })).map(
			([at, more]) =>
				(all: Uint8Array) =>
					Uint8Array.from([...all.subarray(0, at), ...more, ...all.subarray(at)]),
		),
		fc.tuple(place, place).map(
			([from, to]) =>
				(all: Uint8Array) =>
					Uint8Array.from([...all, ...all.subarray(Math.min(from, to), Math.max(from, to))]),
		),
	);
	return fc
		.array(mutation, { minLength: 1, maxLength: 3 })
		.map((mutations) =>
			mutations.reduce((all, mutate) => (all.length === 0 ? all : mutate(all)), Uint8Array.from(bytes)),
		);
}

function mutatedText(text: string): fc.Arbitrary<string> {
	const odd = fc.oneof(
		fc.constantFrom('"', "\\", "{", "}", "[", "]", ",", ":", "\0", "\ud800", "\ufeff", "//", "'", "+", "%", "&", "="),
		fc.string({ unit: "binary", minLength: 1, maxLength: 2 }),
	);
	return fc.tuple(fc.nat(text.length), fc.nat(3), fc.oneof(odd, fc.constant(""))).map(([at, cut, more]) => {
		return text.slice(0, at) + more + text.slice(at + cut);
	});
}

const STRINGS = fc.oneof(
	{ weight: 4, arbitrary: fc.string({ unit: "grapheme", maxLength: 10 }).map((text) => JSON.stringify(text)) },
	{
		weight: 4,
		arbitrary: fc.constantFrom(`"${CANARY}"`, '"acme"', '"2026-01-31T12:00:00Z"', '"SEVERITY_INFO"', '"-1"'),
	},
	fc.constantFrom(
		'"\\u0000"',
		'"\\ud800"',
		'"\\udc00\\ud800"',
		'"\\x"',
		'"\\u12"',
		'"\t"',
		'"9223372036854775808"',
		'"\u2028"',
	),
);
const NUMBERS = fc.oneof(
	fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
	fc.integer().map(String),
	fc.constantFrom(
		"-0",
		"1e400",
		"-1e400",
		"1e-400",
		"9007199254740993",
		"01",
		"+1",
		".5",
		"1.",
		"0x1",
		"NaN",
		"Infinity",
		"1e5",
	),
);
const GOOD_EVENT = ['"tenant_id":"acme"', '"action":"fuzz.event"', '"actor":{"id":"jane"}'];
const GOOD_QUERY = ['"tenant_id":"acme"'];

function namesOf({ fields }: typeof EventSchema | typeof QueryRequestSchema): string[] {
	return fields.flatMap((field) => [field.name, field.jsonName]);
}

function toBase64Url(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString("base64url");
}

function varint(value: number): number[] {
	return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}
