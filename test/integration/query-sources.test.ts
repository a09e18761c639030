import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import type { PoolClient } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import type { Micros, TenantId } from "../../src/event/event.ts";
import { microsOf, rfc3339, timestampOf } from "../../src/event/time.ts";
import { Order } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { Query } from "../../src/query/query.ts";
import { PAGE_LIMITS } from "../../src/query/search.ts";
import { openWalk } from "../../src/query/walk.ts";
import { microsOfColumn } from "../../src/storage/stored-row.ts";
import { checkTrail } from "../support/check-trail.ts";
import {
	ACTIONS,
	anyFilters,
	EMAILS,
	expected,
	type Given,
	keyOf,
	requestOf,
	type Written,
} from "../support/filter-oracle.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent as aPlainEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

/**
 * Searches of a tenant that has so much of some values, and so little of others, that lists of candidates are cut off, many times,
 * in the midst of events of one microsecond, against what the filters mean in plain JavaScript.
 */

let database: TestDatabase;
let path: WritePath;
const written: Written[] = [];
const TENANT = "sources" as TenantId;
const pageTokenKey = deriveKeys("a secret of this test alone, 32 bytes and more").pageTokens;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	const events = fc.sample(anyEvent, { seed: 7, numRuns: 2_000 });
	const distinct = [...new Map(events.map((event) => [`${event.occurredAt} ${event.id}`, event])).values()];
	for (let i = 0; i < distinct.length; i += 250) await write(distinct.slice(i, i + 250));
	return async () => {
		await path.close();
		await database.drop();
	};
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

/** The first microsecond of a month some while ago. Most events are in it, some in the last microsecond before it. */
const MONTH = BigInt(Date.UTC(new Date().getUTCFullYear() - 1, 5, 1)) * 1000n;

/** Most of them the first, and the others ever rarer. */
function skewed<T>(...values: T[]): fc.Arbitrary<T> {
	return fc.oneof(...values.map((value, i) => ({ weight: 4 ** (values.length - i), arbitrary: fc.constant(value) })));
}

const IDS = ["u1", 'a"b', "100%", "a_b", "axb", "A_B"];
const resource = fc.record({ id: skewed(...IDS), type: skewed("file", "folder", "", 'q"t') });
// Few times, so that many events meet in one.
const time = fc.oneof(
	{ weight: 20, arbitrary: fc.bigInt(0n, 5n).map((n) => MONTH + n * 1_000_000n) },
	{ weight: 3, arbitrary: fc.bigInt(-2n, 1n).map((n) => MONTH + n) },
	{ weight: 3, arbitrary: fc.bigInt(0n, 1_000n).map((n) => MONTH + n * 2_000_000_000n) },
);
const ENDS = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
const anyEvent = fc.record({
	id: fc.oneof({ weight: 200, arbitrary: fc.uuid({ version: 4 }) }, { weight: 1, arbitrary: fc.constantFrom(...ENDS) }),
	occurredAt: time,
	action: skewed(...ACTIONS),
	actor: fc.record({ id: skewed(...IDS), email: skewed(...EMAILS), type: skewed(1, 3, 0, 77) }),
	onBehalfOf: skewed<{ id: string }[]>([], [], [{ id: "u1" }], [{ id: 'a"b' }], [{ id: "a_b" }]),
	source: skewed("api", "", "slack", "sl%k"),
	category: skewed(1, 0, 4711, 2),
	severity: skewed(2, 3, 0, 99),
	outcome: skewed(1, 3, 0, -5),
	primaryResource: fc.option(resource, { nil: undefined }),
	relatedResources: fc.oneof(
		{ weight: 2, arbitrary: fc.constant([]) },
		{ weight: 1, arbitrary: fc.array(resource, { maxLength: 2 }) },
	),
	context: fc.record({ requestId: skewed("", ...IDS), traceId: skewed(...IDS) }),
	description: skewed("", "log of 東", "É\nxenon", '"related_resources":'),
});

async function write(events: (typeof anyEvent extends fc.Arbitrary<infer T> ? T : never)[]): Promise<void> {
	const inputs = events.map((event) => {
		const occurredAt = timestampOf(event.occurredAt as Micros);
		return create(EventSchema, { ...event, tenantId: TENANT, occurredAt } as MessageInitShape<typeof EventSchema>);
	});
	const results = await path.ingest.accept(inputs, aWriter(), { atomic: true });
	for (const [i, result] of results.entries()) {
		if (!result.ok) throw result.error;
		const event = inputs[i] as Event;
		const occurredAt = event.occurredAt ? microsOf(event.occurredAt) : 0n;
		written.push({ event, id: event.id, occurredAt, recordedAt: result.event.recordedAt });
	}
}

interface Asked {
	readonly given: Given;
	readonly newestFirst: boolean;
	readonly pageSizes: readonly number[];
	readonly limits: typeof PAGE_LIMITS;
}

const asked: fc.Arbitrary<Asked> = fc.constant(undefined).chain(() =>
	fc.record({
		given: anyFilters(written).filter((given) => Object.keys(given).length > 0),
		newestFirst: fc.boolean(),
		pageSizes: fc.array(fc.constantFrom(1, 7, 25, 26, 50, 51, 52, 101, 204, 1_000), { minLength: 1, maxLength: 4 }),
		// Pages that end because they are full, because of their bytes, and because of the time they took.
		limits: fc.constantFrom(PAGE_LIMITS, { ...PAGE_LIMITS, bytes: 9_000 }, { ...PAGE_LIMITS, millis: 0 }),
	}),
);

const orderOf = ({ newestFirst }: Asked) => (newestFirst ? Order.NEWEST_FIRST : Order.OLDEST_FIRST);

describe("what is found by way of lists of candidates", () => {
	test("is all there is, once, in order, page by page", async () => {
		await fc.assert(
			fc.asyncProperty(asked, async (search) => {
				const query = new Query({ db: path.db, pageTokenKey, limits: search.limits });
				const found: string[] = [];
				// A page of one event is a search of its own: of the long ones, only the beginning is gone through so.
				for (let pageToken = "", n = 0; n === 0 || pageToken !== ""; n += 1) {
					const pageSize = n < 40 ? (search.pageSizes[n % search.pageSizes.length] as number) : 1_000;
					const request = requestOf(search.given, { order: orderOf(search), pageSize, pageToken });
					const page = await query.search(request, TENANT, NOTHING_MASKED);
					expect(page.events.length).toBeLessThanOrEqual(pageSize);
					for (const { occurredAt, id, action } of page.events) {
						if (occurredAt && action !== "audit.log.created") found.push(keyOf(rfc3339(microsOf(occurredAt)), id));
					}
					pageToken = page.nextPageToken;
				}
				expect(found).toEqual(expected(written, search.given, search.newestFirst));
			}),
			{ numRuns: 100 },
		);
	});

	test("is all there is, once, in order, in an export", async () => {
		await fc.assert(
			fc.asyncProperty(asked, async (search) => {
				const walk = openWalk(path.db, requestOf(search.given, { order: orderOf(search) }), TENANT, NOTHING_MASKED);
				const point = await walk.point();
				const found: string[] = [];
				for await (const { rows } of walk.rows(undefined, point?.batchNo ?? 0n, new AbortController().signal)) {
					for (const { occurred_us, id, action } of rows) {
						if (action !== "audit.log.created") found.push(keyOf(rfc3339(microsOfColumn(occurred_us)), id));
					}
				}
				expect(found).toEqual(expected(written, search.given, search.newestFirst));
			}),
			{ numRuns: 60 },
		);
	});
});

describe("events that are written between two statements of one page", () => {
	test("do not make it repeat what it has: it is of one moment", async () => {
		const tenantId = "meanwhile" as TenantId;
		const at = (n: number) => timestampOf((MONTH + BigInt(n) * 1_000_000n) as Micros);
		const writeAt = async (times: number[]) => {
			const actionOf = (n: number) => (n % 16 === 0 ? "user.login" : "user.logout");
			const events = times.map((n) => aPlainEvent({ tenantId, occurredAt: at(n), action: actionOf(n) }));
			for (const result of await path.ingest.accept(events, aWriter(), { atomic: true })) expect(result.ok).toBe(true);
		};
		await writeAt(Array.from({ length: 400 }, (_, i) => 2 * i));
		// A search that goes through the events one by one: each of its statements finds ten more events before the last.
		let n = 0;
		const meanwhile = async () => {
			n += 1;
			await writeAt(Array.from({ length: 10 }, (_, i) => 799 - 20 * n - 2 * i));
		};
		const query = new Query({ db: interrupted(path.db, meanwhile), pageTokenKey });
		const request = requestOf(
			{ not_actions: ["user.logout"], occurred_before: MONTH + 1_000_000_000n },
			{ pageSize: 30 },
		);
		const found: string[] = [];
		for (let pageToken = "", pages = 0; pages === 0 || (pageToken !== "" && pages < 10); pages += 1) {
			const page = await query.search({ ...request, pageToken }, tenantId, NOTHING_MASKED);
			found.push(...page.events.map(({ id }) => id));
			pageToken = page.nextPageToken;
		}
		expect(n).toBeGreaterThan(4);
		expect(new Set(found).size).toBe(found.length);
		expect(found).toHaveLength(50);
	});
});

/** The database, on whose readers' connections something else happens before each statement that reads events. */
function interrupted(db: WritePath["db"], meanwhile: () => Promise<void>): WritePath["db"] {
	const connect = async () => {
		const client = await db.reader.connect();
		const query = client.query.bind(client) as (...args: unknown[]) => Promise<unknown>;
		const release = client.release.bind(client);
		return Object.assign(Object.create(client) as PoolClient, {
			query: async (...args: unknown[]) => {
				const text = typeof args[0] === "string" ? args[0] : (args[0] as { text: string }).text;
				if (text.includes("FROM audit.events") || text.includes('from "audit"."events"')) await meanwhile();
				return query(...args);
			},
			release,
		});
	};
	return { ...db, reader: Object.assign(Object.create(db.reader) as typeof db.reader, { connect }) };
}
