import { createSecretKey } from "node:crypto";
import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Admission, admit } from "../../../src/event/admit.ts";
import type { Micros, TenantId } from "../../../src/event/event.ts";
import { LIMITS } from "../../../src/event/limits.ts";
import { microsOfDate, timestampOf } from "../../../src/event/time.ts";
import {
	ActorType,
	type Category,
	type Event,
	EventSchema,
	type Severity,
} from "../../../src/gen/audit/v1/event_pb.ts";

const now = microsOfDate(new Date("2026-06-15T12:00:00.123Z"));
const admission: Admission = {
	now,
	recordedBy: { door: "rpc", keyId: "key-1" },
	boundTenant: undefined,
	idSecret: createSecretKey(new Uint8Array(32).fill(7)),
};
const V7 = "01977300-0000-7000-8000-000000000001";
const V4 = "6f1a4b58-3d3b-4b43-9f0e-3b1f6a0c2d11";

function anEvent(init: MessageInitShape<typeof EventSchema> = {}): Event {
	const given: MessageInitShape<typeof EventSchema> = {
		tenantId: "acme",
		action: "user.login",
		actor: { id: "user-1" },
	};
	return create(EventSchema, Object.assign(given, init));
}

function admitted(init: MessageInitShape<typeof EventSchema> = {}, by: Partial<Admission> = {}) {
	const result = admit(anEvent(init), { ...admission, ...by });
	if (!result.ok) throw new Error(JSON.stringify(result.violations));
	return result.event;
}

function fieldsRefused(init: MessageInitShape<typeof EventSchema>, by: Partial<Admission> = {}): string[] {
	const result = admit(anEvent(init), { ...admission, ...by });
	return result.ok ? [] : result.violations.map((violation) => violation.field);
}

describe("admission", () => {
	test("a bare event gets an id, a time and the defaults", () => {
		const event = admitted();
		expect(event.occurredAt).toBe(now);
		expect(event.recordedAt).toBe(now);
		expect(event.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
		expect(JSON.parse(event.units.facts)).toEqual({
			outcome: "OUTCOME_SUCCESS",
			recorded_by: { door: "rpc", key_id: "key-1" },
			retention_class: "standard",
			severity: "SEVERITY_INFO",
		});
		expect(event.units).not.toHaveProperty("metadata");
	});

	test("all violations come at once, each with its path", () => {
		const fields = fieldsRefused({
			tenantId: "no spaces",
			action: "User Login",
			actor: { id: "", email: "x".repeat(321) },
			onBehalfOf: [{ id: "ok" }, { id: "bad\nid" }],
			primaryResource: { type: "user" },
			context: { ipAddress: "not an address" },
			metadata: { a: { b: "nul\0" } },
			changes: { oldValue: { n: Number.NaN } },
			description: "x".repeat(4097),
			id: "not-a-uuid",
		});
		expect(fields.sort()).toEqual(
			[
				"tenant_id",
				"action",
				"actor.id",
				"actor.email",
				"on_behalf_of[1].id",
				"primary_resource.id",
				"context.ip_address",
				"metadata.a.b",
				"changes.old_value.n",
				"description",
				"id",
			].sort(),
		);
	});

	test("the tenant may be left out only where the key is bound to one", () => {
		expect(fieldsRefused({ tenantId: "" })).toEqual(["tenant_id"]);
		// Dead letters have this message, too, and their producer had no key.
		expect(admit(anEvent({ tenantId: "" }), admission)).toMatchObject({
			violations: [{ message: expect.stringMatching(/unless the key, or the NATS subject,/) }],
		});
		expect(admitted({ tenantId: "" }, { boundTenant: "acme" as TenantId }).tenantId).toBe("acme");
	});

	test("names that begin with audit. are the service's own", () => {
		expect(fieldsRefused({ action: "audit.log.created" })).toEqual(["action"]);
		expect(admitted({ action: "audit.log.created" }, { kind: 2 }).kind).toBe(2);
		expect(admitted({ action: "auditor.invited" }).kind).toBe(1);
	});

	test("a retry by another key or door states the same facts", () => {
		const first = admitted();
		const second = admitted({}, { recordedBy: { door: "nats", keyId: undefined } });
		expect(second.statedFacts).toBe(first.statedFacts);
		expect(second.units.facts).not.toBe(first.units.facts);
	});
});

describe("identity", () => {
	const time = (micros: bigint) => timestampOf(micros as Micros);

	test("a UUIDv7 brings its own time", () => {
		expect(admitted({ id: V7 }).occurredAt).toBe(0x019773000000n * 1000n);
		expect(admitted({ id: V7.toUpperCase() }).id).toBe(V7);
	});

	test("any other id, and any idempotency key, requires the time: a retry could not be recognised without it", () => {
		expect(fieldsRefused({ id: V4 })).toEqual(["occurred_at"]);
		expect(fieldsRefused({ idempotencyKey: "order-1" })).toEqual(["occurred_at"]);
		expect(admitted({ id: V4, occurredAt: time(now) }).id).toBe(V4);
	});

	test("an idempotency key gives the same id for the same tenant and time, and another for any other", () => {
		const of = (tenantId: string, idempotencyKey: string, at: bigint) =>
			admitted({ tenantId, idempotencyKey, occurredAt: time(at) }).id;
		expect(of("acme", "order-1", now)).toBe(of("acme", "order-1", now));
		expect(of("acme", "order-1", now)).not.toBe(of("globex", "order-1", now));
		expect(of("acme", "order-1", now)).not.toBe(of("acme", "order-2", now));
		expect(of("acme", "order-1", now).charAt(14)).toBe("8");
	});

	test("id and idempotency key exclude each other", () => {
		expect(fieldsRefused({ id: V7, idempotencyKey: "k" })).toEqual(["idempotency_key"]);
	});

	test("an event found in a message takes the message's time, and an id that is the same at every redelivery", () => {
		const place = { name: "nats/1/2/3", publishedAt: (now - 5n) as Micros };
		expect(admitted({}, { place }).occurredAt).toBe(now - 5n);
		expect(admitted({}, { place }).id).toBe(admitted({}, { place }).id);
		expect(admitted({}, { place: { ...place, name: "nats/1/2/4" } }).id).not.toBe(admitted({}, { place }).id);
	});

	test("times are cut to the microsecond, never rounded", () => {
		const event = admitted({ occurredAt: { seconds: 1_780_000_000n, nanos: 999_999_999 } });
		expect(event.occurredAt).toBe(1_780_000_000_999_999n);
	});

	test("times lie within ten years back and a day ahead, to the microsecond", () => {
		const earliest = microsOfDate(new Date("2016-06-15T12:00:00.123Z"));
		const latest = now + 86_400_000_000n;
		expect(fieldsRefused({ occurredAt: time(earliest) })).toEqual([]);
		expect(fieldsRefused({ occurredAt: time(earliest - 1n) })).toEqual(["occurred_at"]);
		expect(fieldsRefused({ occurredAt: time(latest) })).toEqual([]);
		expect(fieldsRefused({ occurredAt: time(latest + 1n) })).toEqual(["occurred_at"]);
		expect(fieldsRefused({ occurredAt: { seconds: 1n, nanos: -1 } })).toEqual(["occurred_at"]);
		expect(fieldsRefused({ occurredAt: { seconds: 1n << 62n, nanos: 0 } })).toEqual(["occurred_at"]);
	});
});

describe("content", () => {
	test("metadata keeps its keys, orders them, and writes numbers as RFC 8785 does", () => {
		const metadata = { b: 1, a: { snake_case: true, camelCase: null, é: [1e-7, -0, 0.1] }, "": "" };
		expect(admitted({ metadata }).units.metadata).toBe(
			'{"":"","a":{"camelCase":null,"snake_case":true,"é":[1e-7,0,0.1]},"b":1}',
		);
	});

	test("what JSON readers cannot hold for ever is refused, with its path", () => {
		const refused = (value: JsonObject[string]) => fieldsRefused({ metadata: { x: value } });
		expect(refused(2 ** 53)).toEqual(["metadata.x"]);
		expect(refused(2 ** 53 - 1)).toEqual([]);
		expect(refused(Number.POSITIVE_INFINITY)).toEqual(["metadata.x"]);
		expect(refused("\ud800")).toEqual(["metadata.x"]);
		expect(refused([1, "\0"])).toEqual(["metadata.x[1]"]);
		expect(fieldsRefused({ metadata: { ["k".repeat(257)]: 1 } })).toHaveLength(1);
		expect(fieldsRefused({ metadata: { ["k".repeat(256)]: 1 } })).toEqual([]);
	});

	test("structs end at their limits of depth and count", () => {
		const nested = (depth: number): JsonObject => (depth === 1 ? { end: 1 } : { n: nested(depth - 1) });
		expect(fieldsRefused({ metadata: nested(LIMITS.structDepth) })).toEqual([]);
		expect(fieldsRefused({ metadata: nested(LIMITS.structDepth + 1) })).toHaveLength(1);
		const wide = (count: number) => ({ list: Array.from({ length: count - 2 }, () => 0) });
		expect(fieldsRefused({ metadata: wide(LIMITS.structNodes) })).toEqual([]);
		expect(fieldsRefused({ metadata: wide(LIMITS.structNodes + 1) })).toEqual(["metadata"]);
	});

	test("the size limit counts canonical bytes: exactly the limit is in, one more is out", () => {
		const fill = (length: number) => {
			const chunk = 100_000;
			const parts = Array.from({ length: Math.ceil(length / chunk) }, (_, i) =>
				"x".repeat(Math.min(chunk, length - i * chunk)),
			);
			return { metadata: { parts } };
		};
		const overhead = admitted(fill(250_000)).bytes - 250_000;
		expect(admitted(fill(LIMITS.eventBytes - overhead)).bytes).toBe(LIMITS.eventBytes);
		expect(fieldsRefused(fill(LIMITS.eventBytes - overhead + 1))).toEqual([""]);
	});

	test("a hostile event is refused in few words: a list that is too long is not walked, and violations end at their limit", () => {
		const endless = Array.from({ length: 500_000 }, () => ({}));
		// Too long, and too large.
		expect(fieldsRefused({ relatedResources: endless })).toEqual(["related_resources", ""]);
		expect(fieldsRefused({ onBehalfOf: Array.from({ length: 9 }, () => ({})) })).toEqual(["on_behalf_of"]);
		const metadata = { list: Array.from({ length: 1_000 }, () => "\0") };
		expect(fieldsRefused({ metadata })).toHaveLength(LIMITS.violations);
	});

	test("enum numbers this version does not know are kept as numbers", () => {
		const facts = admitted({ category: 77 as Category, severity: 99 as Severity }).units.facts;
		expect(JSON.parse(facts)).toMatchObject({ category: 77, severity: 99 });
	});

	test("admission is total: whatever arrives, it answers and does not throw", () => {
		fc.assert(
			fc.property(fc.jsonValue(), fc.string({ unit: "binary" }), (json, text) => {
				const metadata = (
					typeof json === "object" && json !== null && !Array.isArray(json) ? json : { json }
				) as JsonObject;
				const result = admit(anEvent({ metadata, description: text, action: text, id: text }), admission);
				expect(typeof result.ok).toBe("boolean");
			}),
			{ numRuns: 500 },
		);
	});
});

describe("the annotations in the protos, as a second opinion", () => {
	const validator = createValidator();
	const text = fc.oneof(
		fc.constant(""),
		fc.string({ unit: "grapheme", maxLength: 20 }),
		fc.constantFrom("a\nb", "a\0b", "\u007f", "x".repeat(256), "x".repeat(257), "é".repeat(128), "é".repeat(129)),
		fc.constantFrom(
			"x".repeat(320),
			"x".repeat(321),
			"x".repeat(1024),
			"x".repeat(1025),
			"x".repeat(4096),
			"x".repeat(4097),
		),
		fc.constantFrom("x".repeat(32), "x".repeat(33)),
	);
	const actor = fc.record({
		type: fc.constantFrom(...Object.values(ActorType)),
		id: text,
		displayName: text,
		email: text,
	});
	const resource = fc.record({ type: text, id: text, displayName: text, role: text });
	const address = fc.constantFrom(
		"",
		"192.0.2.1",
		"::1",
		"256.1.1.1",
		"1.2.3",
		"::ffff:192.0.2.1",
		"host",
		"2001:db8::",
		"1.2.3.4.5",
		":::",
	);
	const event = fc.record({
		id: fc.constantFrom("", V4, V7, "x", `${V4}0`, V4.toUpperCase()),
		tenantId: fc.constantFrom("acme", "a b", "x".repeat(128), "x".repeat(129), "A.b_c:d-e"),
		action: fc.oneof(
			text,
			fc.constantFrom("user.login", "audit.x", "auditx", "User.login", "x".repeat(127), "x".repeat(128)),
		),
		actor: fc.option(actor, { nil: undefined }),
		primaryResource: fc.option(resource, { nil: undefined }),
		relatedResources: fc.oneof(
			fc.array(resource, { maxLength: 2 }),
			fc.constantFrom(32, 33).map((n) => Array.from({ length: n }, () => ({ id: "r" }))),
		),
		onBehalfOf: fc.oneof(
			fc.array(actor, { maxLength: 2 }),
			fc.constantFrom(8, 9).map((n) => Array.from({ length: n }, () => ({ id: "a" }))),
		),
		source: text,
		context: fc.option(
			fc.record({
				ipAddress: address,
				userAgent: text,
				requestId: text,
				traceId: text,
				sessionId: text,
				location: text,
			}),
			{ nil: undefined },
		),
		changes: fc.option(
			fc.record({
				changedFields: fc.oneof(
					fc.array(text, { maxLength: 3 }),
					fc.constantFrom(1000, 1001).map((n) => Array.from({ length: n }, () => "f")),
				),
			}),
			{ nil: undefined },
		),
		description: text,
		outcomeReason: text,
		reason: text,
		idempotencyKey: text,
		retentionClass: text,
	});

	test("agree with admission on every field they speak of", () => {
		fc.assert(
			fc.property(event, (init) => {
				const input = create(EventSchema, { ...init, occurredAt: timestampOf(now) } as MessageInitShape<
					typeof EventSchema
				>);
				const ours = admit(input, admission);
				const theirs = validator.validate(EventSchema, input);
				if (theirs.kind === "error") throw theirs.error;
				// Rules the annotations do not express: id with idempotency_key, and the event's size.
				const both = input.id !== "" && input.idempotencyKey !== "";
				const unspoken = (field: string) => field === "" || (field === "idempotency_key" && both);
				const fieldsOfOurs = ours.ok
					? []
					: ours.violations.map(({ field }) => field).filter((field) => !unspoken(field));
				const fieldsOfTheirs = (theirs.violations ?? [])
					.map(({ field }) => pathOf(field))
					.filter((field) => !unspoken(field));
				expect([...new Set(fieldsOfOurs)].sort()).toEqual([...new Set(fieldsOfTheirs)].sort());
			}),
			{ numRuns: 1_000 },
		);
	});

	function pathOf(path: readonly { kind: string; name?: string; index?: number }[]): string {
		return path
			.map((part) => (part.kind === "list_sub" ? `[${part.index}]` : `.${part.name}`))
			.join("")
			.slice(1);
	}
});
