import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../../src/auth/principal.ts";
import { AuditError } from "../../../src/errors.ts";
import type { TenantId } from "../../../src/event/event.ts";
import { Order, type QueryRequest, QueryRequestSchema } from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { ActorType, Category, Outcome, Severity } from "../../../src/gen/audit/v1/event_pb.ts";
import { parseSearch } from "../../../src/query/filter.ts";

const acme = "acme" as TenantId;
const request = (init: MessageInitShape<typeof QueryRequestSchema> = {}) => create(QueryRequestSchema, init);

/** The fields refused, with their messages. */
function violations(init: MessageInitShape<typeof QueryRequestSchema>): Record<string, string> {
	return violationsOf(request(init));
}

function violationsOf(message: QueryRequest): Record<string, string> {
	try {
		parseSearch(message, acme, NOTHING_MASKED);
		return {};
	} catch (error) {
		if (!(error instanceof AuditError)) throw error;
		expect([error.code, error.reason]).toEqual(["invalid_argument", "INVALID_QUERY"]);
		return Object.fromEntries(error.violations.map(({ field, message: text }) => [field, text]));
	}
}

const second = (seconds: number, nanos = 0) => ({ seconds: BigInt(seconds), nanos });

describe("a search", () => {
	test("without filters is the tenant's newest 50 events", () => {
		expect(parseSearch(request(), acme, NOTHING_MASKED)).toEqual({
			tenantId: "acme",
			newestFirst: true,
			masked: NOTHING_MASKED,
			pageSize: 50,
		});
	});

	test("is of the tenant that access control resolved, whatever the request names", () => {
		expect(parseSearch(request({ tenantId: "globex" }), acme, NOTHING_MASKED).tenantId).toBe("acme");
	});

	test("has a page of 50 when none is asked for, of 1,000 when more is, and of what is asked for otherwise", () => {
		const sizes = [0, 1, 1000, 1001, 2_147_483_647].map(
			(pageSize) => parseSearch(request({ pageSize }), acme, NOTHING_MASKED).pageSize,
		);
		expect(sizes).toEqual([50, 1, 1000, 1000, 1000]);
	});

	test("is newest first unless the oldest are asked for", () => {
		const orders = [Order.UNSPECIFIED, Order.NEWEST_FIRST, Order.OLDEST_FIRST];
		expect(orders.map((order) => parseSearch(request({ order }), acme, NOTHING_MASKED).newestFirst)).toEqual([
			true,
			true,
			false,
		]);
	});

	test("rounds its times up to the microsecond: events are at whole ones, so nothing changes sides, before 1970 too", () => {
		const search = parseSearch(
			request({ occurredAfter: second(-2, 1999), occurredBefore: second(1, 999_999_999) }),
			acme,
			NOTHING_MASKED,
		);
		expect([search.occurredAfter, search.occurredBefore]).toEqual([-1_999_998n, 2_000_000n]);
	});

	test("does not round its times up beyond those that can be written", () => {
		const end = second(253_402_300_799, 999_999_999);
		expect(parseSearch(request({ occurredBefore: end, recordedBefore: end }), acme, NOTHING_MASKED)).toMatchObject({
			occurredBefore: 253_402_300_799_999_999n,
			recordedBefore: 253_402_300_799_999_999n,
		});
	});

	test("takes lists as sets", () => {
		const actions = ["user.login", "user.*", "file.read", "user.login", "*"];
		const search = parseSearch(request({ actions, severities: [7, 2, 7] }), acme, NOTHING_MASKED);
		expect(search.actions).toEqual(["*", "file.read", "user.*", "user.login"]);
		expect(search.severities).toEqual([2, 7]);
	});

	test("may ask for events without a category, and for numbers this version has no name for", () => {
		const search = parseSearch(
			request({
				categories: [Category.UNSPECIFIED, 4711 as Category],
				actorTypes: [ActorType.UNSPECIFIED, 77 as ActorType],
				severities: [99 as Severity],
				outcomes: [-1 as Outcome],
			}),
			acme,
			NOTHING_MASKED,
		);
		expect(search.categories).toEqual([0, 4711]);
		expect(search.actorTypes).toEqual([0, 77]);
		expect(search.severities).toEqual([99]);
		expect(search.outcomes).toEqual([-1]);
	});

	test("may begin and end at the same moment", () => {
		expect(violations({ occurredAfter: second(5), occurredBefore: second(5) })).toEqual({});
		expect(violations({ recordedAfter: second(5), recordedBefore: second(5) })).toEqual({});
	});
});

describe("words", () => {
	const words = (text: string) => violations({ text });

	test("are 1 to 16, of letters or digits, in 256 bytes", () => {
		const sixteen = Array.from({ length: 16 }, (_, i) => `w${i}`).join(" - ");
		for (const good of ["a", "7", "登録", "user.login*", "ｆ", "कि", sixteen, "é".repeat(128)]) {
			expect([good, words(good)]).toEqual([good, {}]);
		}
		for (const none of [" ", "*", "!?", "😀", "\u0301", "_%"]) {
			expect([none, words(none)]).toEqual([none, { text: "must have a word: letters or digits" }]);
		}
		expect(words(`${sixteen} w16`)).toEqual({ text: "must not have more than 16 words" });
		expect(words(`${"é".repeat(128)}x`)).toEqual({ text: "must not be longer than 256 bytes" });
		expect(words("a\0b")).toEqual({ text: "must not contain U+0000" });
		expect(words("a\ud800")).toEqual({ text: "must be well-formed Unicode (it has a lone surrogate)" });
	});
});

describe("a bad search", () => {
	test("is refused with all that is wrong with it at once", () => {
		const found = violations({
			pageSize: -1,
			order: 9 as Order,
			occurredAfter: second(1, 1_000_000_000),
			occurredBefore: second(-62_135_596_801),
			actorIds: ["ok", ""],
			actions: ["user.login", "User.Login", "a*b", "*"],
			severities: [Severity.UNSPECIFIED],
			outcomes: [Outcome.SUCCESS, Outcome.UNSPECIFIED],
			sources: ["tab\there", "\ud800"],
			resourceType: "\0",
			resourceId: "é".repeat(129),
			recordedAfter: second(1, 1_000_000_000),
			recordedBefore: second(-62_135_596_801),
			actorEmails: ["e".repeat(320), "e".repeat(321), ""],
			requestId: "r".repeat(257),
			traceId: "\u007f",
			ids: ["019A3B2C-1D2E-7F40-8A5B-6C7D8E9F0A1B", "019a3b2c1d2e7f408a5b6c7d8e9f0a1b", ""],
			notActions: ["user.*", "User.*"],
			notActorIds: [""],
			actorOrOnBehalfOfIds: ["ok", "\u0007"],
			touchingIds: ["x".repeat(257)],
			text: "...",
		});
		expect(Object.keys(found).sort()).toEqual([
			"actions[1]",
			"actions[2]",
			"actor_emails[1]",
			"actor_emails[2]",
			"actor_ids[1]",
			"actor_or_on_behalf_of_ids[1]",
			"ids[1]",
			"ids[2]",
			"not_actions[1]",
			"not_actor_ids[0]",
			"occurred_after",
			"occurred_before",
			"order",
			"outcomes[1]",
			"page_size",
			"recorded_after",
			"recorded_before",
			"request_id",
			"resource_id",
			"resource_type",
			"severities[0]",
			"sources[0]",
			"sources[1]",
			"text",
			"touching_ids[0]",
			"trace_id",
		]);
	});

	test("does not end before it begins", () => {
		expect(violations({ occurredAfter: second(6), occurredBefore: second(5) })).toEqual({
			occurred_before: "must not be earlier than occurred_after",
		});
		expect(violations({ recordedAfter: second(6), recordedBefore: second(5) })).toEqual({
			recorded_before: "must not be earlier than recorded_after",
		});
	});

	test("has lists of 100 at most, and one violation for a longer one, however long", () => {
		const ids = Array.from({ length: 101 }, (_, i) => `u${i}`);
		expect(violations({ actorIds: ids.slice(1) })).toEqual({});
		expect(violations({ actorIds: ids })).toEqual({ actor_ids: "must not have more than 100 items" });
		expect(violations({ actions: Array.from({ length: 5000 }, () => "BAD") })).toEqual({
			actions: "must not have more than 100 items",
		});
	});

	test("has no more in all its lists than the record of it can hold; the longest is named", () => {
		const ids = (n: number) => Array.from({ length: n }, (_, i) => `${"x".repeat(250)}${i}`);
		expect(violations({ actorIds: ids(100), touchingIds: ids(100), notActorIds: ids(100) })).toEqual({});
		const all = { actorIds: ids(100), touchingIds: ids(100), notActorIds: ids(99), sources: ids(100) };
		expect(
			violations({
				...all,
				actorOrOnBehalfOfIds: ids(100),
				actorEmails: ids(100),
			}),
		).toEqual({});
		const hostile = ids(100).map((id) => id.replaceAll("x", '"'));
		expect(violations({ ...all, actorOrOnBehalfOfIds: hostile, actorEmails: hostile })).toEqual({
			actor_emails: "must be shorter: all filters together have 196608 bytes at most",
		});
	});

	test("has identifiers of 256 bytes at most", () => {
		expect(violations({ resourceType: "x".repeat(256), actorIds: ["é".repeat(128)] })).toEqual({});
		expect(
			Object.keys(violations({ resourceType: "x".repeat(257), actorIds: [`${"é".repeat(128)}x`] })).sort(),
		).toEqual(["actor_ids[0]", "resource_type"]);
	});

	test("is never told back what it sent", () => {
		const secret = "s3cr3t\u0007";
		const found = violations({ actorIds: [secret], actions: [secret], sources: [secret], resourceId: secret });
		expect(Object.keys(found)).toHaveLength(4);
		expect(JSON.stringify(found)).not.toContain("s3cr3t");
	});
});

test("whatever the annotations of the contract refuse is refused, under the same path", () => {
	const validator = createValidator();
	const text = fc.oneof(
		fc.string({ unit: "binary", maxLength: 300 }),
		fc.constantFrom("", "user.login", "a.*", "*", "x".repeat(257)),
	);
	const numbers = fc.array(fc.integer({ min: -1, max: 9 }), { maxLength: 3 });
	const requests = fc.record({
		pageSize: fc.integer({ min: -3, max: 2000 }),
		actorIds: fc.oneof(fc.array(text, { maxLength: 3 }), fc.constant(Array.from({ length: 101 }, () => "u"))),
		actions: fc.array(text, { maxLength: 4 }),
		categories: numbers,
		severities: numbers,
		outcomes: numbers,
		sources: fc.array(text, { maxLength: 3 }),
		resourceType: text,
		resourceId: text,
		actorEmails: fc.oneof(fc.array(text, { maxLength: 3 }), fc.constant(Array.from({ length: 101 }, () => "e"))),
		actorTypes: numbers,
		requestId: text,
		traceId: text,
		ids: fc.array(fc.oneof(text, fc.uuid()), { maxLength: 3 }),
		notActions: fc.array(text, { maxLength: 4 }),
		notActorIds: fc.oneof(fc.array(text, { maxLength: 3 }), fc.constant(Array.from({ length: 101 }, () => "u"))),
		actorOrOnBehalfOfIds: fc.array(text, { maxLength: 101 }),
		touchingIds: fc.array(text, { maxLength: 101 }),
		text,
	});
	fc.assert(
		fc.property(requests, (init) => {
			const message = request(init as MessageInitShape<typeof QueryRequestSchema>);
			const result = validator.validate(QueryRequestSchema, message);
			const expected = (result.violations ?? []).map((violation) => pathToString(violation.field));
			const found = Object.keys(violationsOf(message));
			expect(found).toEqual(expect.arrayContaining(expected));
		}),
		{ numRuns: 300 },
	);
});
