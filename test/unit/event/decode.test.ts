import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	decodeBatchBinary,
	decodeBatchJson,
	decodeBinary,
	decodeEventBinary,
	decodeEventJson,
	decodeJson,
} from "../../../src/event/decode.ts";
import {
	BatchWriteRequestSchema,
	QueryRequestSchema,
	WriteEventRequestSchema,
} from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { Category, EventSchema, Severity } from "../../../src/gen/audit/v1/event_pb.ts";

const violationsOf = (text: string | Uint8Array) => {
	const decoded = decodeEventJson(text);
	return decoded.ok ? [] : decoded.violations.map(({ field, message }) => `${field}: ${message}`);
};

describe("an event as JSON", () => {
	test("both spellings of names, enum words and numbers, and times of every precision are taken", () => {
		const decoded = decodeEventJson(
			`{"tenant_id":"a","primaryResource":{"id":"x","display_name":"X"},"category":"CATEGORY_AUTH","severity":7,
			  "occurredAt":"2026-01-31T12:00:00.123456789+02:00","schema_version":"3","context":null,"metadata":{"Key":1}}`,
		);
		expect(decoded).toMatchObject({
			ok: true,
			input: {
				tenantId: "a",
				primaryResource: { id: "x", displayName: "X" },
				category: Category.AUTH,
				severity: Severity.SECURITY,
				occurredAt: { seconds: 1769853600n, nanos: 123456789 },
				schemaVersion: 3,
				metadata: { Key: 1 },
			},
		});
	});

	test("enum numbers of a later version are kept, words are not guessed", () => {
		expect(decodeEventJson('{"category":4711}')).toMatchObject({ ok: true, input: { category: 4711 } });
		expect(violationsOf('{"category":"auth"}')[0]).toMatch(
			/^category: must be one of CATEGORY_UNSPECIFIED, CATEGORY_AUTH, /,
		);
		expect(violationsOf('{"category":"1"}')).toHaveLength(1);
		expect(violationsOf('{"category":1.5}')).toHaveLength(1);
	});

	test("everything wrong is told at once, by its path", () => {
		const text = `{"nope":1,"actor":{"id":7,"mail":"x"},"related_resources":[{"id":"a"},{"id":null,"typ":"b"},null,"c"],
			"on_behalf_of":{},"occurred_at":"yesterday","schemaVersion":-1,"metadata":[],"context":"x"}`;
		expect(violationsOf(text)).toEqual([
			"nope: is not a field of Event",
			"actor.id: must be a string",
			"actor.mail: is not a field of Actor",
			"related_resources[1].typ: is not a field of ResourceRef",
			"related_resources[2]: must not be null",
			"related_resources[3]: must be an object",
			"on_behalf_of: must be a list",
			"occurred_at: must be an RFC 3339 time such as 2026-01-31T12:00:00.000001Z",
			"schema_version: must be an integer from 0 to 4294967295",
			"metadata: must be an object",
			"context: must be an object",
		]);
	});

	test.each([
		"2026-02-31T00:00:00Z",
		"2026-01-31T24:00:00Z",
		"2026-01-31T23:59:60Z",
		"2026-13-01T00:00:00Z",
		"2026-01-31t00:00:00z",
		"2026-01-31 00:00:00Z",
		"2026-01-31T00:00:00",
		"2026-01-31T00:00:00+2",
		"2026-01-31T00:00:00+24:00",
		"2026-01-31T00:00:00.0000000001Z",
		"0000-12-31T23:59:59Z",
		"+12026-01-31T00:00:00Z",
		"1769853600",
	])("%s is not a time", (time) => {
		expect(violationsOf(JSON.stringify({ occurred_at: time }))).toHaveLength(1);
	});

	test.each([
		['{"action":"a","action":"a"}', ["action: is given twice"]],
		['{"tenantId":"a","tenant_id":"a"}', ["tenant_id: is given twice, in two spellings"]],
		['{"primaryResource":{"id":"a","\\u0069d":"b"}}', ["primary_resource.id: is given twice"]],
		['{"metadata":{"a":[{"b":1,"c":{},"b":2}]}}', ["metadata.a[0].b: is given twice"]],
		['{"metadata":{"a\\"b":"\\\\","x":"\\"","a\\"b":2}}', ['metadata."a\\"b": is given twice']],
		['{"metadata":{"a":{"x":1},"b":{"x":1},"c":["x","x",{"x":"x"}]}}', []],
	])("names given twice: %s", (text, expected) => {
		expect(violationsOf(text)).toEqual(expected);
	});

	test("text that is not JSON, and bytes that are not UTF-8, are refused without repeating them", () => {
		expect(violationsOf('{"action": s3cret}')).toEqual([
			expect.stringMatching(/^: is not valid JSON( at position \d+)?$/),
		]);
		expect(violationsOf("")).toEqual([": is not valid JSON"]);
		expect(violationsOf(new Uint8Array([0x7b, 0xff, 0x7d]))).toEqual([": is not valid UTF-8"]);
		expect(violationsOf("null")).toEqual([": must be an object"]);
	});

	test("lone surrogates are refused where texts are, and left to admission in metadata", () => {
		expect(violationsOf('{"description":"\\ud800"}')).toEqual([
			"description: must be well-formed Unicode (it has a lone surrogate)",
		]);
		expect(violationsOf('{"metadata":{"a":"\\ud800"}}')).toEqual([]);
	});

	test("metadata 32 levels deep is taken, 33 are not, and a hostile depth costs nothing", () => {
		const deep = (levels: number) => `{"metadata":${'{"a":'.repeat(levels)}1${"}".repeat(levels)}}`;
		expect(violationsOf(deep(32))).toEqual([]);
		expect(violationsOf(deep(33))[0]).toMatch(/is nested deeper than 32 levels$/);
		expect(violationsOf(`{"metadata":{"a":${"[".repeat(500_000)}${"]".repeat(500_000)}}}`)).toHaveLength(1);
		const doubled = `${"[".repeat(100_000)}{${'"a":1,'.repeat(100_000)}"a":1}${"]".repeat(100_000)}`;
		expect(violationsOf(`{"metadata":{"a":${doubled}}}`).length).toBeLessThan(200);
	});

	test("names like those of Object's own properties are ordinary in metadata and unknown elsewhere", () => {
		expect(violationsOf('{"metadata":{"__proto__":1,"constructor":2,"toString":3}}')).toEqual([]);
		expect(violationsOf('{"__proto__":{},"constructor":1}')).toEqual([
			"__proto__: is not a field of Event",
			"constructor: is not a field of Event",
		]);
	});

	test("whatever the JSON, the answer is an event or violations, and never an exception", () => {
		fc.assert(
			fc.property(fc.json(), fc.constantFrom(...EventSchema.fields.map(({ name }) => name)), (json, name) => {
				const decoded = decodeEventJson(`{"${name}":${json}}`);
				expect(decoded.ok || decoded.violations.length > 0).toBe(true);
			}),
			{ numRuns: 2000 },
		);
	});

	test("what protobuf-es writes is what is read", () => {
		const event = create(EventSchema, {
			id: "x",
			actor: { id: "jane", type: 5 },
			onBehalfOf: [{ id: "joe" }],
			changes: { oldValue: { a: 1 }, newValue: { a: null }, changedFields: ["a"] },
			occurredAt: { seconds: -1n, nanos: 1 },
			integrity: { state: 1, leafHash: new Uint8Array([1, 2, 255]), logIndex: 2n ** 60n },
		});
		for (const useProtoFieldName of [true, false]) {
			expect(decodeEventJson(toJsonString(EventSchema, event, { useProtoFieldName }))).toEqual({
				ok: true,
				input: event,
			});
		}
	});
});

describe("other requests as JSON", () => {
	test("a search, with paths into its lists", () => {
		const decoded = decodeJson(QueryRequestSchema, '{"severities":["SEVERITY_INFO","LOUD"],"pageSize":"50"}');
		expect(decoded).toMatchObject({ ok: false, violations: [{ field: "severities[1]" }] });
	});

	test("a batch, as one request", () => {
		const decoded = decodeJson(BatchWriteRequestSchema, '{"events":[{"actor":{"id":1}},{}],"mode":"ALL"}');
		expect(decoded).toMatchObject({ ok: false, violations: [{ field: "events[0].actor.id" }, { field: "mode" }] });
	});
});

describe("an event as protobuf", () => {
	const field = (number: number, bytes: Uint8Array) =>
		new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish();
	const notUtf8 = new Uint8Array([0xff, 0xfe]);

	test("comes back as it was", () => {
		const event = create(EventSchema, { action: "a", metadata: { a: [1] }, category: 99 as Category });
		expect(decodeEventBinary(toBinary(EventSchema, event))).toEqual({ ok: true, input: event });
	});

	test.each([
		["text that is not UTF-8", field(3, notUtf8), "action", "must be valid UTF-8"],
		["such text further down", field(5, field(2, notUtf8)), "actor.id", "must be valid UTF-8"],
		[
			"in the second of a list",
			new Uint8Array([...field(16, field(2, new Uint8Array())), ...field(16, field(2, notUtf8))]),
			"on_behalf_of[1].id",
			"must be valid UTF-8",
		],
		["in the metadata", field(14, field(1, field(1, notUtf8))), "metadata", "is not valid protobuf"],
		["an actor that is cut off", field(5, new Uint8Array([0x12, 9, 1])), "actor", "is not valid protobuf"],
		["an event that is cut off", new Uint8Array([0x1a, 9, 1]), "", "is not valid protobuf"],
		["a field number 0", new Uint8Array([0, 0]), "", "is not valid protobuf"],
	])("%s is found by its path", (_, bytes, at, message) => {
		expect(decodeEventBinary(bytes)).toEqual({ ok: false, violations: [{ field: at, message }] });
	});

	test("fields this version does not know would be lost, so they are refused, at every depth", () => {
		const unknown = new BinaryWriter().tag(99, WireType.Varint).uint32(1).finish();
		const bytes = new Uint8Array([...field(5, unknown), ...field(12, unknown), ...unknown]);
		expect(decodeEventBinary(bytes)).toMatchObject({
			ok: false,
			violations: [{ field: "" }, { field: "actor" }, { field: "related_resources[0]" }],
		});
	});

	test("whatever the bytes, the answer is an event or violations, and never an exception", () => {
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
				for (const desc of [EventSchema, WriteEventRequestSchema, QueryRequestSchema]) {
					const decoded = decodeBinary(desc, bytes);
					expect(decoded.ok || decoded.violations.length > 0).toBe(true);
				}
				expect(decodeBatchBinary(bytes)).toHaveProperty("ok");
			}),
			{ numRuns: 2000 },
		);
	});
});

describe("a batch, event by event", () => {
	test("as JSON: a bad event spoils no other, and each has its own text", () => {
		const texts = ['{ "action" : "a" }', '{"action":1}', '{"actor":{"id":"a","id":"b"}}', "7"];
		const batch = decodeBatchJson(`{"mode":"BATCH_WRITE_MODE_PARTIAL", "events": [${texts.join(" , ")}]}`);
		if (!batch.ok) throw new Error("it is a batch");
		expect(batch.items.map(({ source }) => new TextDecoder().decode(source))).toEqual(texts);
		expect(batch.items.map(({ decoded }) => (decoded.ok ? "ok" : decoded.violations))).toEqual([
			"ok",
			[{ field: "action", message: "must be a string" }],
			[{ field: "actor.id", message: "is given twice" }],
			[{ field: "", message: "must be an object" }],
		]);
	});

	test.each([
		["[]", ""],
		['{"events":{}}', "events"],
		['{"evnts":[]}', "evnts"],
		['{"events":[],"events":[]}', "events"],
		['{"mode":"ALL"}', "mode"],
	])("as JSON: %s is no batch", (text, field) => {
		expect(decodeBatchJson(text)).toMatchObject({ ok: false, violations: [{ field }] });
	});

	test("as protobuf: likewise", () => {
		const good = toBinary(EventSchema, create(EventSchema, { action: "a" }));
		const bad = new Uint8Array([0x1a, 9, 1]);
		const writer = new BinaryWriter();
		for (const bytes of [good, bad, good]) writer.tag(1, WireType.LengthDelimited).bytes(bytes);
		const batch = decodeBatchBinary(writer.tag(2, WireType.Varint).uint32(1).finish());
		if (!batch.ok) throw new Error("it is a batch");
		expect(batch.items.map(({ decoded }) => decoded.ok)).toEqual([true, false, true]);
		expect(batch.items[1]?.source).toEqual(bad);
	});

	test("as protobuf: an event itself is no batch", () => {
		expect(decodeBatchBinary(toBinary(EventSchema, create(EventSchema, { action: "a" })))).toMatchObject({ ok: false });
	});
});
