import { createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { create, type DescField, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../../src/auth/principal.ts";
import { AuditError } from "../../../src/errors.ts";
import type { EventId, Micros, TenantId } from "../../../src/event/event.ts";
import { Order, QueryRequestSchema } from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { parseSearch, type Search } from "../../../src/query/filter.ts";
import { type Cursor, issuePageToken, openPageToken } from "../../../src/query/page-token.ts";

type Filters = MessageInitShape<typeof QueryRequestSchema>;

const key = createSecretKey(randomBytes(32));
const now = Date.UTC(2026, 10, 20);
const cursor: Cursor = {
	occurredAt: 1_795_000_000_123_456n as Micros,
	id: "019a3b2c-1d2e-7f40-8a5b-6c7d8e9f0a1b" as EventId,
};

function searchOf(filters: Filters, tenantId = "acme"): Search {
	return parseSearch(create(QueryRequestSchema, filters), tenantId as TenantId, NOTHING_MASKED);
}

const opens = (token: string, search: Search, withKey: KeyObject = key, at = now) => {
	try {
		return openPageToken(withKey, search, token, at);
	} catch (error) {
		if (!(error instanceof AuditError)) throw error;
		expect(error.code).toBe("invalid_argument");
		expect(error.reason).toBe("INVALID_PAGE_TOKEN");
		expect(error.violations.map(({ field }) => field)).toEqual(["page_token"]);
		return "refused";
	}
};

const FILTERS: Filters = {
	occurredAfter: { seconds: 1n, nanos: 0 },
	occurredBefore: { seconds: 2n, nanos: 0 },
	actorIds: ["a", "b"],
	actions: ["user.login", "file.*"],
	categories: [1, 0],
	severities: [2],
	outcomes: [1],
	sources: ["api"],
	resourceType: "file",
	resourceId: "f1",
	recordedAfter: { seconds: 3n, nanos: 0 },
	recordedBefore: { seconds: 4n, nanos: 0 },
	actorEmails: ["a@example.com"],
	actorTypes: [1],
	requestId: "r1",
	traceId: "t1",
	ids: ["019a3b2c-1d2e-7f40-8a5b-6c7d8e9f0a1b"],
	includeReads: true,
	notActions: ["user.logout"],
	notActorIds: ["c"],
	actorOrOnBehalfOfIds: ["d", "e"],
	touchingIds: ["f"],
	text: "two words",
	order: Order.OLDEST_FIRST,
};
/** For each field a token is bound to, another value. */
const CHANGES: Filters = {
	occurredAfter: { seconds: 1n, nanos: 1000 },
	occurredBefore: { seconds: 2n, nanos: 1000 },
	actorIds: ["a"],
	actions: ["user.login", "file.read"],
	categories: [1],
	severities: [2, 3],
	outcomes: [2],
	sources: ["api", "cli"],
	resourceType: "folder",
	resourceId: "f2",
	recordedAfter: { seconds: 3n, nanos: 1000 },
	recordedBefore: { seconds: 4n, nanos: 1000 },
	actorEmails: ["A@example.com"],
	actorTypes: [0],
	requestId: "r2",
	traceId: "t2",
	ids: ["019a3b2c-1d2e-7f40-8a5b-6c7d8e9f0a1c"],
	includeReads: false,
	notActions: ["user.*"],
	notActorIds: ["b"],
	actorOrOnBehalfOfIds: ["d"],
	touchingIds: ["g"],
	text: "two word",
	order: Order.NEWEST_FIRST,
};

describe("a page token", () => {
	test("brings back the place it was made for, at any time and with any id", () => {
		fc.assert(
			fc.property(fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n }), fc.uuid(), (micros, id) => {
				const place = { occurredAt: micros as Micros, id: id as EventId };
				expect(opens(issuePageToken(key, searchOf({}), place, now), searchOf({}))).toEqual(place);
			}),
		);
	});

	test("can stand in a URL as it is", () => {
		expect(issuePageToken(key, searchOf(FILTERS), cursor, now)).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
	});

	test("is good for the same search with another page size, and with its lists in another order", () => {
		const token = issuePageToken(key, searchOf(FILTERS), cursor, now);
		expect(opens(token, searchOf({ ...FILTERS, pageSize: 7 }))).toEqual(cursor);
		expect(opens(token, searchOf({ ...FILTERS, actorIds: ["b", "a", "b"], categories: [0, 1] }))).toEqual(cursor);
	});

	test("is refused for another tenant", () => {
		const token = issuePageToken(key, searchOf(FILTERS, "acme"), cursor, now);
		expect(opens(token, searchOf(FILTERS, "globex"))).toBe("refused");
	});

	const free = ["tenant_id", "page_size", "page_token"];
	const bound = QueryRequestSchema.fields.filter((field) => !free.includes(field.name));
	test.each(bound.map((field) => [field.name, field] as [string, DescField]))(
		"is refused when %s is another, or missing, or was not there before",
		(_name, { localName }) => {
			const name = localName as keyof Filters;
			// A field added to the contract has to be added here.
			expect(FILTERS[name]).toBeDefined();
			expect(CHANGES[name]).toBeDefined();
			const { [name]: _, ...without } = FILTERS;
			const token = issuePageToken(key, searchOf(FILTERS), cursor, now);
			expect(opens(token, searchOf({ ...FILTERS, [name]: CHANGES[name] } as Filters))).toBe("refused");
			expect(opens(token, searchOf(without as Filters))).toBe("refused");
			expect(opens(issuePageToken(key, searchOf(without as Filters), cursor, now), searchOf(FILTERS))).toBe("refused");
		},
	);

	test("does not take a value of one filter for that of another", () => {
		const token = issuePageToken(key, searchOf({ resourceType: "x" }), cursor, now);
		expect(opens(token, searchOf({ resourceId: "x" }))).toBe("refused");
		const actor = issuePageToken(key, searchOf({ actorIds: ["x"] }), cursor, now);
		expect(opens(actor, searchOf({ sources: ["x"] }))).toBe("refused");
		const request = issuePageToken(key, searchOf({ requestId: "x" }), cursor, now);
		expect(opens(request, searchOf({ traceId: "x" }))).toBe("refused");
		const occurred = issuePageToken(key, searchOf({ occurredAfter: { seconds: 1n, nanos: 0 } }), cursor, now);
		expect(opens(occurred, searchOf({ recordedAfter: { seconds: 1n, nanos: 0 } }))).toBe("refused");
		for (const other of ["notActorIds", "actorOrOnBehalfOfIds", "touchingIds"] as const) {
			expect(opens(actor, searchOf({ [other]: ["x"] }))).toBe("refused");
		}
		expect(opens(request, searchOf({ text: "x" }))).toBe("refused");
		const exact = issuePageToken(key, searchOf({ actions: ["user"] }), cursor, now);
		expect(opens(exact, searchOf({ notActions: ["user"] }))).toBe("refused");
		expect(opens(exact, searchOf({ actions: ["user*"] }))).toBe("refused");
	});

	test("is good for 30 days and not a millisecond longer", () => {
		const token = issuePageToken(key, searchOf({}), cursor, now);
		const days = 24 * 60 * 60 * 1000;
		expect(opens(token, searchOf({}), key, now + 30 * days)).toEqual(cursor);
		expect(opens(token, searchOf({}), key, now + 30 * days + 1)).toBe("refused");
	});

	test("is the same in every release, or those under way would end with the next one", () => {
		const fixed = createSecretKey(Buffer.alloc(32, 7));
		// Filters that came later are not in it where they are not given.
		const later = ["includeReads", "notActions", "notActorIds", "actorOrOnBehalfOfIds", "touchingIds", "text"];
		const filters = Object.fromEntries(Object.entries(FILTERS).filter(([name]) => !later.includes(name))) as Filters;
		expect(issuePageToken(fixed, searchOf(filters), cursor, now)).toBe(
			"AQAGYIsBYRJAAZo7LB0uf0CKW2x9jp8KGwAAAaH2QLwAsdqBw7s7cw-s0EZ_zFFOBbtJzLH5m9UGvD9cIkuaGTg",
		);
	});

	test("is refused under another secret", () => {
		expect(opens(issuePageToken(key, searchOf({}), cursor, now), searchOf({}), createSecretKey(randomBytes(32)))).toBe(
			"refused",
		);
	});
});

describe("a token we did not issue is refused", () => {
	const token = issuePageToken(key, searchOf(FILTERS), cursor, now);

	test("whichever bit was flipped", () => {
		const bytes = Buffer.from(token, "base64url");
		for (let bit = 0; bit < bytes.length * 8; bit += 1) {
			const flipped = Buffer.from(bytes);
			flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
			expect(opens(flipped.toString("base64url"), searchOf(FILTERS))).toBe("refused");
		}
	});

	test("whichever of its characters is another, spare bits of the last one included", () => {
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ .%\n";
		for (let i = 0; i < token.length; i += 1) {
			for (const character of alphabet) {
				if (character === token[i]) continue;
				const changed = token.slice(0, i) + character + token.slice(i + 1);
				expect(opens(changed, searchOf(FILTERS))).toBe("refused");
			}
		}
	});

	test("cut short, lengthened, or padded", () => {
		for (let length = 1; length < token.length; length += 1) {
			expect(opens(token.slice(0, length), searchOf(FILTERS))).toBe("refused");
		}
		for (const more of ["A", "AAAA", "=", "==", " ", "\n", token]) {
			expect(opens(token + more, searchOf(FILTERS))).toBe("refused");
			expect(opens(more + token, searchOf(FILTERS))).toBe("refused");
		}
	});

	test("be it any text", () => {
		fc.assert(
			fc.property(
				fc.oneof(fc.string({ unit: "binary" }), fc.base64String(), fc.string({ minLength: 80, maxLength: 90 })),
				(text) => {
					expect(opens(text, searchOf(FILTERS))).toBe("refused");
				},
			),
		);
	});
});
