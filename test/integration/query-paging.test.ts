import { randomBytes, randomUUID } from "node:crypto";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import type { Micros, TenantId } from "../../src/event/event.ts";
import { microsOf, timestampOf } from "../../src/event/time.ts";
import { Order, QueryRequestSchema, QueryResponseSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { Event } from "../../src/gen/audit/v1/event_pb.ts";
import { Query } from "../../src/query/query.ts";
import { PAGE_LIMITS } from "../../src/query/search.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

let database: TestDatabase;
let path: WritePath;
let tenants = 0;
const pageTokenKey = deriveKeys("a secret of this test alone, 32 bytes and more").pageTokens;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	return async () => {
		await path.close();
		await database.drop();
	};
});

afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

const newTenant = () => `paging-${tenants++}` as TenantId;
const DAY = 86_400_000_000n;
const NOW = BigInt(Date.now()) * 1000n;
const keyOf = (event: Event) => `${event.occurredAt ? microsOf(event.occurredAt) : ""} ${event.id}`;

/** Writes events at these times (microseconds before now), with ids that say nothing of their time. */
async function write(tenantId: TenantId, ages: readonly bigint[]): Promise<string[]> {
	if (ages.length === 0) return [];
	const events = ages.map((age) => {
		const occurredAt = timestampOf((NOW - age) as Micros);
		return anEvent({ tenantId, id: randomUUID(), occurredAt });
	});
	for (const result of await path.ingest.accept(events, aWriter(), { atomic: true })) {
		if (!result.ok) throw result.error;
	}
	return events.map(keyOf);
}

describe("whatever is written while somebody pages", () => {
	// Months that have a partition, months that get one on the way, and times that meet in one microsecond.
	const age = fc
		.tuple(fc.constantFrom(0n, 1n, 31n, 62n, 1000n, 2000n), fc.bigInt(-3n, 3n))
		.map(([days, micros]) => days * DAY + 100n + micros);
	const ages = fc.array(age, { maxLength: 12 });
	const runs = fc.record({
		before: fc.array(age, { minLength: 1, maxLength: 40 }),
		meanwhile: fc.array(ages, { minLength: 1, maxLength: 12 }),
		pageSizes: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 }),
		order: fc.constantFrom(Order.NEWEST_FIRST, Order.OLDEST_FIRST),
		// Pages that end because they are full, because of their bytes, and because of the time they took.
		limits: fc.constantFrom(PAGE_LIMITS, { ...PAGE_LIMITS, bytes: 3000 }, { ...PAGE_LIMITS, millis: 0 }),
	});

	test("nothing that existed is repeated or skipped, and the order holds over all pages", async () => {
		await fc.assert(
			fc.asyncProperty(runs, async ({ before, meanwhile, pageSizes, order, limits }) => {
				const tenantId = newTenant();
				const query = new Query({ db: path.db, pageTokenKey, limits });
				const existed = await write(tenantId, before);
				const found: string[] = [];
				let pageToken = "";
				for (let n = 0; n === 0 || pageToken !== ""; n += 1) {
					const pageSize = pageSizes[n % pageSizes.length] as number;
					const request = create(QueryRequestSchema, { order, pageSize, pageToken });
					const [page] = await Promise.all([
						query.search(request, tenantId, NOTHING_MASKED),
						write(tenantId, meanwhile[n] ?? []),
					]);
					expect(page.events.length).toBeLessThanOrEqual(pageSize);
					found.push(...page.events.map(keyOf));
					pageToken = page.nextPageToken;
				}
				expect(found).toEqual(expect.arrayContaining(existed));
				expect(new Set(found).size).toBe(found.length);
				// All times have the same number of digits, so the order of keys is that of their texts.
				const sorted = [...found].sort((a, b) => (a < b ? -1 : 1));
				expect(found).toEqual(order === Order.OLDEST_FIRST ? sorted : sorted.reverse());
			}),
			{ numRuns: 40 },
		);
	});
});

describe("a page", () => {
	const query = () => new Query({ db: path.db, pageTokenKey });

	test("ends early at 3 MiB, in any encoding, and goes on where it ended", async () => {
		const tenantId = newTenant();
		// Text that is as long in both encodings, and numbers that are five times as long in protobuf as in JSON.
		const shapes = [
			{ text: randomBytes(90_000).toString("hex") },
			{ numbers: Array.from({ length: 1900 }, (_, i) => i % 10) },
		];
		for (let batch = 0; batch < 8; batch += 1) {
			const events = Array.from({ length: batch < 4 ? 10 : 150 }, (_, i) => {
				const occurredAt = timestampOf((NOW - BigInt(batch * 1000 + i)) as Micros);
				return anEvent({ tenantId, occurredAt, metadata: shapes[batch < 4 ? 0 : 1] ?? {} });
			});
			await path.ingest.accept(events, aWriter(), { atomic: true });
		}
		const found: string[] = [];
		const sizes: number[] = [];
		for (let pageToken = ""; ; ) {
			const page = await query().search(
				create(QueryRequestSchema, { pageSize: 1000, pageToken }),
				tenantId,
				NOTHING_MASKED,
			);
			const response = create(QueryResponseSchema, page);
			sizes.push(
				Math.max(
					toBinary(QueryResponseSchema, response).byteLength,
					toJsonString(QueryResponseSchema, response).length,
				),
			);
			found.push(...page.events.map(keyOf));
			pageToken = page.nextPageToken;
			if (pageToken === "") break;
		}
		expect(new Set(found).size).toBe(641);
		expect(found).toHaveLength(641);
		const limit = 3 * 1024 * 1024;
		expect(Math.max(...sizes)).toBeLessThanOrEqual(limit + 200);
		// All but the last are nearly full.
		expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThan(limit * 0.8);
	});

	test("holds an event that is bigger than a page, alone", async () => {
		const tenantId = newTenant();
		await write(tenantId, [1n, 2n, 3n]);
		const tiny = new Query({ db: path.db, pageTokenKey, limits: { bytes: 1, millis: 5000 } });
		const page = await tiny.search(create(QueryRequestSchema), tenantId, NOTHING_MASKED);
		expect(page.events).toHaveLength(1);
		expect(page.nextPageToken).not.toBe("");
	});

	test("that found nothing in its time says where to go on, and the search comes to its end", async () => {
		const tenantId = newTenant();
		await write(tenantId, [1n, 40n * DAY, 80n * DAY, 400n * DAY]);
		const hasty = new Query({ db: path.db, pageTokenKey, limits: { ...PAGE_LIMITS, millis: 0 } });
		for (const order of [Order.NEWEST_FIRST, Order.OLDEST_FIRST]) {
			let pages = 0;
			for (let pageToken = ""; pages === 0 || pageToken !== ""; pages += 1) {
				const request = create(QueryRequestSchema, { order, pageToken, actorIds: ["nobody"] });
				const page = await hasty.search(request, tenantId, NOTHING_MASKED);
				expect(page.events).toEqual([]);
				pageToken = page.nextPageToken;
			}
			expect(pages).toBeGreaterThanOrEqual(4);
			expect(pages).toBeLessThanOrEqual(122);
		}
	});

	test("finds the first event of a month that had no partition a moment ago", async () => {
		const tenantId = newTenant();
		const months = await partitionNames();
		const one = query();
		await path.tenants.create(tenantId, tenantId);
		await one.search(create(QueryRequestSchema), tenantId, NOTHING_MASKED);
		const written = await write(tenantId, [3300n * DAY]);
		expect(await partitionNames()).toHaveLength(months.length + 1);
		const page = await one.search(create(QueryRequestSchema, { order: Order.OLDEST_FIRST }), tenantId, NOTHING_MASKED);
		expect(page.events.map(keyOf)).toEqual(expect.arrayContaining(written));
	});

	test("keeps events at the ends of a month, and ids at the ends of their range", async () => {
		const tenantId = newTenant();
		const first = BigInt(Date.UTC(new Date().getUTCFullYear(), 0, 1)) * 1000n;
		const ids = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", randomUUID()];
		const events = [-1n, 0n, 1n].flatMap((offset) =>
			ids.map((id) => anEvent({ tenantId, id, occurredAt: timestampOf((first + offset) as Micros) })),
		);
		const results = await path.ingest.accept(events, aWriter(), { atomic: true });
		expect(results.every((result) => result.ok && !result.duplicate)).toBe(true);
		for (const millis of [0, 5000]) {
			const walker = new Query({ db: path.db, pageTokenKey, limits: { ...PAGE_LIMITS, millis } });
			for (const order of [Order.NEWEST_FIRST, Order.OLDEST_FIRST]) {
				const found: string[] = [];
				for (let pageToken = "", n = 0; n === 0 || pageToken !== ""; n += 1) {
					const request = create(QueryRequestSchema, { order, pageToken, pageSize: 2, actions: ["user.login"] });
					const page = await walker.search(request, tenantId, NOTHING_MASKED);
					found.push(...page.events.map(keyOf));
					pageToken = page.nextPageToken;
				}
				expect(found).toHaveLength(events.length);
				expect(new Set(found)).toEqual(new Set(events.map(keyOf)));
			}
		}
	});
});

async function partitionNames(): Promise<string[]> {
	const client = new Client({ connectionString: database.url });
	await client.connect();
	try {
		const { rows } = await client.query(
			"SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit.events'::regclass",
		);
		return rows.map((row) => row.name as string);
	} finally {
		await client.end();
	}
}
