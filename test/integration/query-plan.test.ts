import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EventId, Micros, TenantId } from "../../src/event/event.ts";
import { timestampOf } from "../../src/event/time.ts";
import { Order, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { parseSearch } from "../../src/query/filter.ts";
import type { Cursor } from "../../src/query/page-token.ts";
import { search } from "../../src/query/search.ts";
import { type FoundRow, WALK_IN_ORDER, windowStatement } from "../../src/query/window-statement.ts";
import { inTenant } from "../../src/storage/db.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

let database: TestDatabase;
let path: WritePath;
const acme = "acme" as TenantId;
const NOW = new Date();
/** The first moment of the month so many months ago. */
const month = (ago: number) => (BigInt(Date.UTC(NOW.getUTCFullYear(), NOW.getUTCMonth() - ago, 1)) * 1000n) as Micros;
const partitionOf = (ago: number) =>
	`events_${new Date(Number(month(ago) / 1000n)).toISOString().slice(0, 7).replace("-", "_")}`;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	for (const ago of [5, 4, 3, 2, 1]) {
		const events = Array.from({ length: 1000 }, (_, i) => {
			const occurredAt = timestampOf((month(ago) + BigInt(i) * 60_000_000n) as Micros);
			return anEvent({ tenantId: i % 2 === 0 ? acme : "globex", occurredAt });
		});
		await path.ingest.accept(events, aWriter(), { atomic: true });
	}
	await asAdmin((admin) => admin.query("ANALYZE audit.events"));
	return async () => {
		await path.close();
		await database.drop();
	};
});

afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

type Filters = MessageInitShape<typeof QueryRequestSchema>;

interface Plan {
	"Relation Name"?: string;
	"Index Name"?: string;
	"Index Cond"?: string;
	Plans?: Plan[];
}

/** Every scan of the plan that the service's own role gets, with row-level security. */
async function scansOf(filters: Filters, cursor?: Cursor): Promise<Plan[]> {
	const checked = parseSearch(create(QueryRequestSchema, filters), acme);
	const window = { from: month(3), to: month(2) };
	const { text, values } = windowStatement(checked, window, cursor, { rows: 51, bytes: 3_000_000 });
	const scans: Plan[] = [];
	const collect = (plan: Plan) => {
		if (plan["Relation Name"]) scans.push(plan);
		plan.Plans?.forEach(collect);
	};
	await inTenant(path.db, acme, async (client) => {
		await client.query(WALK_IN_ORDER);
		const { rows } = await client.query({ text: `EXPLAIN (FORMAT JSON) ${text}`, values: values ?? [] });
		collect(rows[0]["QUERY PLAN"][0].Plan);
	});
	return scans;
}

describe("the statement of one window", () => {
	const cursor = {
		occurredAt: (month(3) + 500_000_000n) as Micros,
		id: "019a3b2c-1d2e-7f40-8a5b-6c7d8e9f0a1b" as EventId,
	};
	test.each<[string, Filters]>([
		["without filters", {}],
		["oldest first", { order: Order.OLDEST_FIRST }],
		["for something common", { actions: ["user.login", "user.*"], severities: [2] }],
		["for something rare", { actorIds: ["nobody"] }],
		["for a resource, primary or related", { resourceType: "file", resourceId: "f1" }],
	])("reads one partition, by a range of its primary key: %s", async (_what, filters) => {
		for (const from of [undefined, cursor]) {
			const [scan, ...others] = await scansOf(filters, from);
			expect(others).toEqual([]);
			expect(scan?.["Relation Name"]).toBe(partitionOf(3));
			expect(scan?.["Index Name"]).toBe(`${partitionOf(3)}_pkey`);
			expect(scan?.["Index Cond"]).toMatch(/tenant_id = .*occurred_at >= .*occurred_at < /);
			if (from) expect(scan?.["Index Cond"]).toMatch(/ROW\(occurred_at, id\) [<>] ROW\(/);
		}
	});
});

test("a window's rows end where a page's bytes do: what is read into memory is bounded, whatever the events hold", async () => {
	const checked = parseSearch(create(QueryRequestSchema), acme);
	const rowsOf = (bytes: number) =>
		inTenant(path.db, acme, async (client) => {
			const statement = windowStatement(checked, { from: month(3), to: month(2) }, undefined, { rows: 51, bytes });
			return (await client.query<FoundRow>(statement)).rows;
		});
	const [first] = await rowsOf(1);
	const size = first?.bytes ?? 0;
	expect(size).toBeGreaterThan(100);
	const counts = [1, size, size + 1, size * 10, 3_000_000].map(async (bytes) => (await rowsOf(bytes)).length);
	expect(await Promise.all(counts)).toEqual([1, 1, 2, 10, 51]);
});

test.each([
	["newest first", { pageSize: 200 }, [1, 0]],
	["oldest first", { pageSize: 200, order: Order.OLDEST_FIRST }, [5]],
	[
		"between two times",
		{ pageSize: 1000, occurredAfter: timestampOf(month(3)), occurredBefore: timestampOf(month(2)) },
		[3],
	],
])("a page waits for no partition it does not need: %s", async (_what, filters, needed) => {
	await asAdmin(async (admin) => {
		await admin.query("BEGIN");
		for (const ago of [0, 1, 2, 3, 4, 5].filter((n) => !needed.includes(n))) {
			await admin.query(`LOCK TABLE audit.${partitionOf(ago)} IN ACCESS EXCLUSIVE MODE`);
		}
		const { events } = await search(path.db, parseSearch(create(QueryRequestSchema, filters), acme), undefined);
		expect(events.length).toBeGreaterThanOrEqual(200);
	});
});

test("a search for something rare reads no month from end to end", async () => {
	const scans = () =>
		asAdmin(async (admin) => {
			const { rows } = await admin.query(
				"SELECT sum(seq_scan)::int AS whole, sum(idx_scan)::int AS by_index FROM pg_stat_user_tables WHERE relname LIKE 'events_%'",
			);
			return rows[0] as { whole: number; by_index: number };
		});
	const before = await scans();
	// A connection reports what it has scanned at its end, at the latest.
	const another = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	const rare = parseSearch(create(QueryRequestSchema, { actorIds: ["nobody"] }), acme);
	expect((await search(another.db, rare, undefined)).events).toEqual([]);
	await another.close();
	const after = await waitFor(async () => {
		const now = await scans();
		return now.by_index >= before.by_index + 5 ? now : undefined;
	});
	expect(after.whole).toBe(before.whole);
});

async function asAdmin<T>(use: (admin: Client) => Promise<T>): Promise<T> {
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	try {
		return await use(admin);
	} finally {
		await admin.end();
	}
}
