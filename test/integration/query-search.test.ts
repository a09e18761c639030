import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import type { EventInput, Micros, TenantId } from "../../src/event/event.ts";
import { timestampOf } from "../../src/event/time.ts";
import { Order, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { ActorType, Category, Event, EventSchema, Outcome, Severity } from "../../src/gen/audit/v1/event_pb.ts";
import { Query } from "../../src/query/query.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

let database: TestDatabase;
let path: WritePath;
let query: Query;
const { pageTokens } = deriveKeys("a secret of this test alone, 32 bytes and more");
const DAY = 86_400_000_000n;
const NOON = ((BigInt(Date.now()) * 1000n) / DAY) * DAY - DAY / 2n;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	query = new Query({ db: path.db, pageTokenKey: pageTokens });
	return async () => {
		await path.close();
		await database.drop();
	};
});

afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

type EventInit = MessageInitShape<typeof EventSchema>;
type Filters = MessageInitShape<typeof QueryRequestSchema>;

async function write(events: EventInit[]): Promise<Event[]> {
	const inputs = events.map((init) => anEvent(init));
	const results = await path.ingest.accept(inputs, aWriter(), { atomic: true });
	return results.map((result, i) => {
		if (!result.ok) throw result.error;
		return { ...(inputs[i] as EventInput), id: result.event.id };
	});
}

/** All pages. The events the service makes itself (`audit.log.created`) are left out. */
async function findAll(filters: Filters, tenant = "acme", by = query): Promise<Event[]> {
	const found: Event[] = [];
	for (let pageToken = ""; ; ) {
		const request = create(QueryRequestSchema, { ...filters, pageToken } as Filters);
		const page = await by.search(request, tenant as TenantId, NOTHING_MASKED);
		expect(page.events.length).toBeLessThanOrEqual(request.pageSize || 50);
		found.push(...page.events.filter((event) => !event.action.startsWith("audit.")));
		pageToken = page.nextPageToken;
		if (pageToken === "") return found;
	}
}

const at = (micros: bigint) => timestampOf(micros as Micros);

test("an event is found as it was written, with numbers that have no name yet", async () => {
	const [written] = await write([
		{
			tenantId: "roundtrip",
			occurredAt: at(NOON),
			action: "file.moved",
			actor: { id: "u1", type: 77 as ActorType, email: "u@example.com", displayName: "Ü" },
			severity: 1234 as Severity,
			outcome: -1 as Outcome,
			category: 4711 as Category,
			source: "slack",
			primaryResource: { id: "f1", type: "file" },
			relatedResources: [{ id: "d1", type: "folder", role: "from" }],
			metadata: { b: 1, a: [true, null, "x"], snake_case: { camelCase: 1.5 } },
			context: { ipAddress: "::1", requestId: "r-1" },
		},
	]);
	const [found, ...rest] = await findAll({}, "roundtrip");
	expect(rest).toEqual([]);
	const { recordedAt, integrity, ...stated } = found as Event;
	expect(stated).toEqual({ ...written, retentionClass: "standard" });
	expect(recordedAt).toBeDefined();
	expect(integrity?.leafHash).toHaveLength(32);
});

describe("a page", () => {
	const hasNext = async (pageSize: number, tenant: string) => {
		const request = create(QueryRequestSchema, { pageSize });
		return (await query.search(request, tenant as TenantId, NOTHING_MASKED)).nextPageToken !== "";
	};

	test("that holds the very last event says so: no empty page follows", async () => {
		await write([0n, 1n, 2n].map((i) => ({ tenantId: "three", occurredAt: at(NOON - i * 200n * DAY) })));
		// With the tenant's first leaf there are four.
		expect([await hasNext(3, "three"), await hasNext(4, "three"), await hasNext(5, "three")]).toEqual([
			true,
			false,
			false,
		]);
	});

	test("without events is empty and the last; of a tenant that does not exist there is none", async () => {
		await write([{ tenantId: "quiet", occurredAt: at(NOON) }]);
		const nothing = create(QueryRequestSchema, { actions: ["no.such"] });
		expect(await query.search(nothing, "quiet" as TenantId, NOTHING_MASKED)).toMatchObject({
			events: [],
			nextPageToken: "",
		});
		await expect(query.search(nothing, "nobody" as TenantId, NOTHING_MASKED)).rejects.toMatchObject({
			reason: "TENANT_NOT_FOUND",
		});
	});

	test("is bound to its tenant, every filter and the order by its token", async () => {
		await write([0n, 1n].map((i) => ({ tenantId: "bound", occurredAt: at(NOON - i) })));
		const first = await query.search(create(QueryRequestSchema, { pageSize: 1 }), "bound" as TenantId, NOTHING_MASKED);
		const again = (filters: Filters, tenant: string) =>
			query.search(
				create(QueryRequestSchema, { ...filters, pageToken: first.nextPageToken } as Filters),
				tenant as TenantId,
				NOTHING_MASKED,
			);
		expect((await again({ pageSize: 9, order: Order.NEWEST_FIRST }, "bound")).events).toHaveLength(2);
		const refused = { code: "invalid_argument", reason: "INVALID_PAGE_TOKEN" };
		await expect(again({}, "acme")).rejects.toMatchObject(refused);
		await expect(again({ order: Order.OLDEST_FIRST }, "bound")).rejects.toMatchObject(refused);
		await expect(again({ actions: ["user.login"] }, "bound")).rejects.toMatchObject(refused);
	});

	test("can be followed by another service with the same secret, and by none with another", async () => {
		const first = await query.search(create(QueryRequestSchema, { pageSize: 1 }), "bound" as TenantId, NOTHING_MASKED);
		const next = create(QueryRequestSchema, { pageToken: first.nextPageToken });
		const restarted = new Query({ db: path.db, pageTokenKey: pageTokens });
		expect((await restarted.search(next, "bound" as TenantId, NOTHING_MASKED)).events).toHaveLength(2);
		const other = new Query({ db: path.db, pageTokenKey: deriveKeys("another secret").pageTokens });
		await expect(other.search(next, "bound" as TenantId, NOTHING_MASKED)).rejects.toMatchObject({
			reason: "INVALID_PAGE_TOKEN",
		});
	});
});

test.each<[string, Filters]>([
	["by nothing", {}],
	["by ids", { ids: ["5a1f2f0e-6f0a-4c39-9d54-0b6a2f1f7c11"] }],
])("a search %s that PostgreSQL ends for taking too long says what to change", async (_what, filters) => {
	await write([{ tenantId: "slow", occurredAt: at(NOON) }]);
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	try {
		await admin.query("BEGIN");
		await admin.query("LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE");
		const search = query.search(create(QueryRequestSchema, filters), "slow" as TenantId, NOTHING_MASKED);
		const refused = expect(search).rejects.toMatchObject({ code: "deadline_exceeded", reason: "SEARCH_TOO_SLOW" });
		// The server's own limit ends a statement just as this does.
		await waitFor(async () => {
			// Or a transaction sees for ever who was active when it first looked.
			await admin.query("SELECT pg_stat_clear_snapshot()");
			const { rows } = await admin.query(
				"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'audit_reader' AND datname = current_database() AND wait_event_type = 'Lock'",
			);
			return rows.length;
		});
		await refused;
	} finally {
		await admin.end();
	}
});
