import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { headers, type MsgHdrs, MsgHdrsImpl } from "nats";
import { describe, expect, test } from "vitest";
import { BatchWriteRequestSchema } from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { EventSchema } from "../../../src/gen/audit/v1/event_pb.ts";
import { decodeMessage, type IncomingMessage, placeOf } from "../../../src/ingest/nats-message.ts";

const CREATED = new Date("2026-01-02T03:04:05.678Z");
// 2026-01-31T12:00:00.123456789Z, which a double cannot hold.
const REPLY = "$JS.ACK.AUDIT.audit-writer.1.42.7.1769860800123456789.3";

const event = create(EventSchema, { action: "user.login", actor: { id: "user-1" } });
const other = create(EventSchema, { action: "user.logout", actor: { id: "user-2" } });
const protobuf = toBinary(EventSchema, event);
const batch = create(BatchWriteRequestSchema, { events: [event, other] });
const utf8 = (text: string) => new TextEncoder().encode(text);
const SAMPLES = [
	protobuf,
	toBinary(BatchWriteRequestSchema, batch),
	utf8(toJsonString(EventSchema, event)),
	utf8(toJsonString(BatchWriteRequestSchema, batch)),
];

function decode(message: Partial<IncomingMessage>, fields: Record<string, string | string[]> = {}) {
	const made = headers();
	for (const [name, values] of Object.entries(fields)) for (const value of [values].flat()) made.append(name, value);
	return decodeMessage({ subject: "audit.events", reply: REPLY, data: protobuf, headers: made, ...message }, CREATED);
}

const reasons = (items: ReturnType<typeof decode>) => items.map(({ refusal }) => refusal?.reason);
const actions = (items: ReturnType<typeof decode>) => items.map(({ input }) => input?.action);

describe("where a message comes from", () => {
	test("its number and time are exact: nanoseconds are cut to microseconds, never rounded", () => {
		expect(placeOf(REPLY)).toEqual({ streamSeq: 42n, publishedAt: 1_769_860_800_123_456n });
	});

	test("the newer form of the acknowledgement subject, with domain and account, is read as well", () => {
		const reply = "$JS.ACK._.AbCd.AUDIT.audit-writer.1.42.7.1769860800123456789.3.x8Y";
		expect(placeOf(reply)).toEqual({ streamSeq: 42n, publishedAt: 1_769_860_800_123_456n });
	});

	test("goes with every item: stream, number, position, subject, headers, bytes", () => {
		const data = toBinary(BatchWriteRequestSchema, batch);
		const items = decode({ subject: "audit.events.acme", data }, { "Audit-Type": "batch", "X-Trace": ["a", "b"] });
		expect(items.map(({ origin }) => origin)).toEqual(
			[event, other].map((item, position) => ({
				streamCreated: CREATED,
				streamSeq: 42n,
				position,
				subject: "audit.events.acme",
				headers: { "Audit-Type": ["batch"], "X-Trace": ["a", "b"] },
				body: toBinary(EventSchema, item),
				isPart: true,
				publishedAt: 1_769_860_800_123_456n,
				tenantId: "acme",
			})),
		);
	});
});

describe("whose event it is", () => {
	test("the subject binds the tenant; the bare subject binds none", () => {
		expect(decode({ subject: "audit.events.acme" })[0]?.origin.tenantId).toBe("acme");
		expect(decode({ subject: "audit.events" })[0]?.origin.tenantId).toBeUndefined();
	});

	test.each(["audit.events.acme.x", "audit.events.", "audit.eventsx", "audit.events.a/b", "audit.events.ü", "other"])(
		"a subject that is not ours (%s) is refused, never taken for unbound",
		(subject) => {
			const items = decode({ subject });
			expect(reasons(items)).toEqual(["UNKNOWN_SUBJECT"]);
			expect(items[0]?.input).toBeUndefined();
		},
	);
});

describe("what a body is", () => {
	test("protobuf by default", () => {
		expect(actions(decode({}))).toEqual(["user.login"]);
		expect(actions(decode({ headers: undefined }))).toEqual(["user.login"]);
	});

	test("JSON when it begins with {, or when Content-Type says so", () => {
		const json = toJsonString(EventSchema, event);
		expect(actions(decode({ data: utf8(json) }))).toEqual(["user.login"]);
		const type = { "Content-Type": "Application/JSON; charset=utf-8" };
		expect(actions(decode({ data: utf8(`\n ${json}`) }, type))).toEqual(["user.login"]);
		expect(reasons(decode({ data: protobuf }, { "content-type": "application/json" }))).toEqual(["UNDECODABLE_JSON"]);
	});

	test("a batch when Audit-Type says so, in protobuf and in JSON", () => {
		const type = { "Audit-Type": "batch" };
		const expected = ["user.login", "user.logout"];
		expect(actions(decode({ data: toBinary(BatchWriteRequestSchema, batch) }, type))).toEqual(expected);
		const json = toJsonString(BatchWriteRequestSchema, batch);
		expect(actions(decode({ data: utf8(json) }, { "audit-type": "batch" }))).toEqual(expected);
	});

	test.each([["bulk"], [["batch", "event"]]])("an Audit-Type that means nothing (%s) is refused", (type) => {
		expect(reasons(decode({}, { "Audit-Type": type }))).toEqual(["UNKNOWN_AUDIT_TYPE"]);
	});
});

describe("what cannot be read", () => {
	test("becomes one refused item with the original bytes", () => {
		const bytes = Uint8Array.of(0xff, 0xff, 0xff);
		const items = decode({ data: bytes });
		expect(reasons(items)).toEqual(["UNDECODABLE_PROTOBUF"]);
		expect(items[0]?.origin.body).toEqual(bytes);
		expect(items[0]?.input).toBeUndefined();
		for (const text of ['{"action":', '{"action":"a","action":"b"}', '{"nonsense":1}', '{"severity":"LOUD"}']) {
			expect(reasons(decode({ data: utf8(text) }))).toEqual(["UNDECODABLE_JSON"]);
		}
	});

	test("in a batch it takes only itself out, with its own bytes", () => {
		const json = '{"events":[{"action":"a.b"}, {"nonsense" : 1}, {"action":"c.d"}]}';
		const items = decode({ data: utf8(json) }, { "Audit-Type": "batch" });
		expect(reasons(items)).toEqual([undefined, "UNDECODABLE_JSON", undefined]);
		expect(new TextDecoder().decode(items[1]?.origin.body)).toBe('{"nonsense" : 1}');
		expect(items.map(({ origin }) => origin.position)).toEqual([0, 1, 2]);

		// Field 1, three times: an event, three bytes of nothing, an event.
		const good = [0x0a, protobuf.length, ...protobuf];
		const binary = Uint8Array.from([...good, 0x0a, 3, 0xff, 0xff, 0xff, ...good]);
		const decoded = decode({ data: binary }, { "Audit-Type": "batch" });
		expect(reasons(decoded)).toEqual([undefined, "UNDECODABLE_PROTOBUF", undefined]);
		expect(decoded[1]?.origin.body).toEqual(Uint8Array.of(0xff, 0xff, 0xff));
	});

	test("a batch of none or of more than 1,000 is refused as a whole", () => {
		const type = { "Audit-Type": "batch" };
		const sized = (n: number) =>
			toBinary(BatchWriteRequestSchema, create(BatchWriteRequestSchema, { events: Array(n).fill(event) }));
		expect(reasons(decode({ data: sized(0) }, type))).toEqual(["EMPTY_BATCH"]);
		expect(reasons(decode({ data: utf8("{}") }, type))).toEqual(["EMPTY_BATCH"]);
		expect(decode({ data: sized(1_000) }, type)).toHaveLength(1_000);
		expect(reasons(decode({ data: sized(1_001) }, type))).toEqual(["BATCH_TOO_LARGE"]);
	});

	test("whatever the bytes, they become items: each an event, or a refusal", () => {
		const types = fc.constantFrom({}, { "Audit-Type": "batch" }, { "Content-Type": "application/json" });
		const cut = fc
			.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }), fc.constantFrom(...SAMPLES))
			.map(([at, byte, bytes]) => {
				const changed = Uint8Array.from(bytes);
				changed[at % changed.length] = byte;
				return changed;
			});
		const bodies = fc.oneof(fc.uint8Array({ maxLength: 200 }), cut, fc.json().map(utf8));
		fc.assert(
			fc.property(bodies, types, (data, fields) => {
				const items = decode({ data }, fields);
				expect(items.length).toBeGreaterThan(0);
				for (const { input, refusal } of items) expect(input === undefined).toBe(refusal !== undefined);
			}),
			{ numRuns: 2_000 },
		);
		for (const open of ['{"metadata":', "[", '{"events":[']) {
			expect(decode({ data: utf8(open.repeat(100_000)) }, { "Content-Type": "application/json" })).toHaveLength(1);
		}
	});

	test("headers the client library chokes on are a refusal, not an exception", () => {
		const message: IncomingMessage = {
			subject: "audit.events",
			reply: REPLY,
			data: protobuf,
			get headers(): MsgHdrs {
				return MsgHdrsImpl.decode(utf8("NATS/1.0\r\nno spaces: allowed\r\n\r\n"));
			},
		};
		expect(reasons(decodeMessage(message, CREATED))).toEqual(["UNDECODABLE_HEADERS"]);
	});

	test("U+0000 in headers is replaced: PostgreSQL could not keep the dead letter otherwise", () => {
		const items = decode({ data: Uint8Array.of(0xff) }, { "X-Odd": "a\0b" });
		expect(items[0]?.origin.headers).toEqual({ "X-Odd": ["a\uFFFDb"] });
	});
});
