import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import type { EventId, Micros, TenantId } from "../../src/event/event.ts";
import { timestampOf } from "../../src/event/time.ts";
import { Order, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { Window } from "../../src/query/conditions.ts";
import { parseSearch } from "../../src/query/filter.ts";
import type { Cursor } from "../../src/query/page-token.ts";
import { search } from "../../src/query/search.ts";
import { type Found, PLANS, windowStatement } from "../../src/query/window-statement.ts";
import { windowsOf } from "../../src/query/windows.ts";
import { inTenant } from "../../src/storage/db.ts";
import { storedColumns } from "../../src/storage/stored-row.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

let database: TestDatabase;
let path: WritePath;
const acme = "acme" as TenantId;
const ALL = storedColumns(NOTHING_MASKED);
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
	const checked = parseSearch(create(QueryRequestSchema, filters), acme, NOTHING_MASKED);
	const window = { from: month(3), to: month(2) };
	const { text, values } = windowStatement(checked, window, cursor, { columns: ALL, rows: 51, bytes: 3_000_000 });
	const scans: Plan[] = [];
	const collect = (plan: Plan) => {
		if (plan["Relation Name"]) scans.push(plan);
		plan.Plans?.forEach(collect);
	};
	await inTenant(path.db, acme, async (client) => {
		await client.query(PLANS);
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
		["with those that tell of reads", { includeReads: true }],
		["oldest first", { order: Order.OLDEST_FIRST }],
		["for something common", { actions: ["user.login", "user.*"], severities: [2] }],
		["for a resource, primary or related", { resourceType: "file", resourceId: "f1" }],
		["by when it was recorded", { recordedAfter: timestampOf(month(3)), recordedBefore: timestampOf(month(0)) }],
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

test("no search is compiled, whatever the server is set to: that takes ten times as long as the search", async () => {
	const jit = async (client: { query(sql: string): Promise<{ rows: { jit: string }[] }> }) =>
		(await client.query("SELECT current_setting('jit') AS jit")).rows[0]?.jit;
	await inTenant(path.db, acme, async (client) => {
		await client.query("SET LOCAL jit = on");
		await client.query(PLANS);
		expect(await jit(client)).toBe("off");
	});
});

test("a window's rows end where a page's bytes do: what is read into memory is bounded, whatever the events hold", async () => {
	const checked = parseSearch(create(QueryRequestSchema), acme, NOTHING_MASKED);
	const rowsOf = (bytes: number) =>
		inTenant(path.db, acme, async (client) => {
			const statement = windowStatement(checked, { from: month(3), to: month(2) }, undefined, {
				columns: ALL,
				rows: 51,
				bytes,
			});
			return (await client.query<Found>(statement)).rows;
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
		const { events } = await search(
			path.db,
			parseSearch(create(QueryRequestSchema, filters), acme, NOTHING_MASKED),
			undefined,
		);
		expect(events.length).toBeGreaterThanOrEqual(200);
	});
});

test("by when events were recorded no month is gone through in which they were too far ahead then", async () => {
	// A day and more before this month: what was recorded then, had not happened in it.
	const recordedBefore = timestampOf((month(0) - 86_400_000_000n) as Micros);
	await asAdmin(async (admin) => {
		await admin.query("BEGIN");
		await admin.query(`LOCK TABLE audit.${partitionOf(0)} IN ACCESS EXCLUSIVE MODE`);
		const { events } = await search(
			path.db,
			parseSearch(create(QueryRequestSchema, { recordedBefore }), acme, NOTHING_MASKED),
			undefined,
		);
		expect(events).toEqual([]);
	});
});

describe("a search by ids", () => {
	const untimed = [randomUUID(), "019a3b2c-1d2e-7f40-8a5b-6c7d8e9f0a1b"];
	const times = [5, 3, 2].map((ago) => (month(ago) + 30_000_000n) as Micros);

	beforeAll(async () => {
		const events = untimed.flatMap((id) => times.map((time) => anEvent({ id, occurredAt: timestampOf(time) })));
		await path.ingest.accept(events, aWriter(), { atomic: true });
	});

	/** Where a search looks, in its order. */
	async function windowsFor(filters: Filters, cursor?: Cursor): Promise<Window[]> {
		const checked = parseSearch(create(QueryRequestSchema, filters), acme, NOTHING_MASKED);
		return inTenant(path.db, acme, (client) => windowsOf(client, checked, cursor));
	}
	const moment = (time: Micros) => ({ from: time, to: (time + 1n) as Micros });
	const millisecond = (time: Micros) => ({ from: time, to: (time + 1000n) as Micros });
	const timed = (time: Micros) => {
		const hex = (time / 1000n).toString(16).padStart(12, "0");
		return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
	};

	test("looks where each id says its event is, and where any was used otherwise; nowhere else", async () => {
		const [a, b] = [month(4), month(1)];
		expect(await windowsFor({ ids: [timed(a), timed(b), randomUUID()] })).toEqual([millisecond(b), millisecond(a)]);
		const [oldest, middle, newest] = times as [Micros, Micros, Micros];
		expect(await windowsFor({ ids: untimed, order: Order.OLDEST_FIRST })).toEqual([oldest, middle, newest].map(moment));
		expect(await windowsFor({ ids: [...untimed, timed(newest)] })).toEqual([
			millisecond(newest),
			moment(middle),
			moment(oldest),
		]);
	});

	test("keeps to the time range, and goes on from its cursor", async () => {
		const range = { occurredAfter: timestampOf(month(4)), occurredBefore: timestampOf(month(2)) };
		expect(await windowsFor({ ids: untimed, ...range })).toEqual([moment(times[1] as Micros)]);
		const cursor = { occurredAt: times[1] as Micros, id: untimed[0] as EventId };
		const before = [times[1], times[0]].map((time) => moment(time as Micros));
		expect(await windowsFor({ ids: untimed }, cursor)).toEqual(before);
	});

	test("finds untimed ids by their index", async () => {
		const scans = () =>
			asAdmin(async (admin) => {
				const { rows } = await admin.query(
					"SELECT indexrelname LIKE '%_pkey' AS key, sum(idx_tup_read)::int AS read FROM pg_stat_user_indexes WHERE relname LIKE 'events_%' GROUP BY 1",
				);
				return Object.fromEntries(rows.map(({ key, read }) => [key ? "key" : "untimed", read as number]));
			});
		const before = await scans();
		const another = openWritePath({ databaseUrl: database.url, secret: testSecret() });
		const byIds = parseSearch(create(QueryRequestSchema, { ids: untimed }), acme, NOTHING_MASKED);
		expect((await search(another.db, byIds, undefined)).events).toHaveLength(6);
		await another.close();
		const after = await waitFor(async () => {
			const now = await scans();
			return (now["untimed"] ?? 0) >= (before["untimed"] ?? 0) + 6 ? now : undefined;
		});
		// The six events themselves, each by its key; no month.
		expect((after["key"] ?? 0) - (before["key"] ?? 0)).toBeLessThan(20);
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
	const rare = parseSearch(create(QueryRequestSchema, { actorIds: ["nobody"] }), acme, NOTHING_MASKED);
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
