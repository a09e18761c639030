import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deriveKeys } from "../../src/auth/secret.ts";
import type { EventInput, Micros, TenantId } from "../../src/event/event.ts";
import { microsOf, timestampOf } from "../../src/event/time.ts";
import { Order, type QueryRequest, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type {
	ActorType,
	Category,
	Event,
	EventSchema,
	Outcome,
	ResourceRef,
	Severity,
} from "../../src/gen/audit/v1/event_pb.ts";
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
		const page = await by.search(request, tenant as TenantId);
		expect(page.events.length).toBeLessThanOrEqual(request.pageSize || 50);
		found.push(...page.events.filter((event) => !event.action.startsWith("audit.")));
		pageToken = page.nextPageToken;
		if (pageToken === "") return found;
	}
}

const at = (micros: bigint) => timestampOf(micros as Micros);
const timeOf = (event: Event) => (event.occurredAt ? microsOf(event.occurredAt) : 0n);

/** The order of results: by time, then by the bytes of the id. */
function newestFirst(a: Event, b: Event): number {
	if (timeOf(a) !== timeOf(b)) return timeOf(a) > timeOf(b) ? -1 : 1;
	return a.id > b.id ? -1 : 1;
}

describe("whatever is searched for", () => {
	// Few values, so that they meet; and such as must not mean anything to SQL, LIKE or JSON.
	const ids = ["u1", 'a"b', "100%", "a_b", "a\\b", "é😀", "' OR true --", "$1", "{x,y}"];
	const actions = ["user.login", "user.logout", "user-x", "user_x", "file.read", "user."];
	const id = fc.constantFrom(...ids);
	const resource = fc.record({ id, type: fc.constantFrom("", "file", "folder", 'q"t') });
	const sources = ["", "api", "sl%k"];
	const month = fc.constantFrom(0n, 0n, 30n, 60n, 400n);
	const events = fc.record({
		occurredAt: fc.tuple(month, fc.bigInt(0n, 20n)).map(([days, micros]) => at(NOON - days * DAY - micros)),
		action: fc.constantFrom(...actions),
		actor: fc.record({ id, displayName: id }),
		source: fc.constantFrom(...sources),
		category: fc.constantFrom<Category>(0, 1, 2, 4711 as Category),
		severity: fc.constantFrom<Severity>(0, 2, 3, 99 as Severity),
		outcome: fc.constantFrom<Outcome>(0, 1, 3, -5 as Outcome),
		primaryResource: fc.option(resource, { nil: undefined }),
		relatedResources: fc.array(resource, { maxLength: 3 }),
		description: fc.constantFrom("", '"related_resources":'),
	});
	const some = <T>(values: readonly T[]) => fc.oneof(fc.constant([]), fc.subarray([...values], { minLength: 1 }));
	const time = fc.option(
		fc.tuple(month, fc.bigInt(0n, 20n)).map(([days, micros]) => at(NOON - days * DAY - micros)),
		{ nil: undefined },
	);
	const searches = fc.record({
		occurredAfter: time,
		occurredBefore: time,
		actorIds: some(ids),
		actions: some([...actions, "user.*", "user*", "u*", "*", "user_*", "absent"]),
		categories: some<Category>([0, 1, 4711 as Category]),
		severities: some<Severity>([2, 3, 99 as Severity]),
		outcomes: some<Outcome>([1, 3, -5 as Outcome]),
		sources: some(sources.slice(1)),
		resourceType: fc.constantFrom("", "", "file", 'q"t', "folder"),
		resourceId: fc.constantFrom("", "", ...ids),
		order: fc.constantFrom(Order.NEWEST_FIRST, Order.OLDEST_FIRST),
		pageSize: fc.constantFrom(0, 3, 1000),
	});

	/** The contract's words on filters, for one event. */
	function matches(event: Event, request: QueryRequest): boolean {
		const oneOf = <T>(list: T[], value: T) => list.length === 0 || list.includes(value);
		const { occurredAfter, occurredBefore, resourceType, resourceId } = request;
		const isMeant = (ref: ResourceRef | undefined) =>
			ref !== undefined &&
			(resourceType === "" || ref.type === resourceType) &&
			(resourceId === "" || ref.id === resourceId);
		return (
			(!occurredAfter || timeOf(event) >= microsOf(occurredAfter)) &&
			(!occurredBefore || timeOf(event) < microsOf(occurredBefore)) &&
			oneOf(request.actorIds, event.actor?.id ?? "") &&
			(request.actions.length === 0 ||
				request.actions.some((a) =>
					a.endsWith("*") ? event.action.startsWith(a.slice(0, -1)) : event.action === a,
				)) &&
			oneOf(request.categories, event.category) &&
			oneOf(request.severities, event.severity || 2) &&
			oneOf(request.outcomes, event.outcome || 1) &&
			oneOf(request.sources, event.source) &&
			((resourceType === "" && resourceId === "") ||
				[event.primaryResource, ...event.relatedResources].some((ref) => isMeant(ref)))
		);
	}

	test("exactly what matches is found, each once, in order", async () => {
		const written: Event[] = [];
		for (const seed of [1, 2]) {
			written.push(...(await write(fc.sample(events, { seed, numRuns: 150 }) as EventInit[])));
			// Another tenant's events, the same but for the tenant, are never found.
			const foreign = fc.sample(events, { seed, numRuns: 150 }).map((event) => ({ ...event, tenantId: "globex" }));
			await write(foreign as EventInit[]);
		}
		let hits = 0;
		await fc.assert(
			fc.asyncProperty(searches, async (filters) => {
				const { occurredAfter, occurredBefore } = filters;
				fc.pre(!occurredAfter || !occurredBefore || microsOf(occurredAfter) <= microsOf(occurredBefore));
				const request = create(QueryRequestSchema, filters as Filters);
				const expected = written.filter((event) => matches(event, request)).sort(newestFirst);
				if (request.order === Order.OLDEST_FIRST) expected.reverse();
				const found = await findAll(filters as Filters);
				expect(found.map((event) => event.id)).toEqual(expected.map((event) => event.id));
				hits += found.length > 0 ? 1 : 0;
			}),
			{ numRuns: 250 },
		);
		expect(hits).toBeGreaterThan(30);
	});
});

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
		return (await query.search(request, tenant as TenantId)).nextPageToken !== "";
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
		expect(await query.search(nothing, "quiet" as TenantId)).toEqual({ events: [], nextPageToken: "" });
		await expect(query.search(nothing, "nobody" as TenantId)).rejects.toMatchObject({ reason: "TENANT_NOT_FOUND" });
	});

	test("is bound to its tenant, every filter and the order by its token", async () => {
		await write([0n, 1n].map((i) => ({ tenantId: "bound", occurredAt: at(NOON - i) })));
		const first = await query.search(create(QueryRequestSchema, { pageSize: 1 }), "bound" as TenantId);
		const again = (filters: Filters, tenant: string) =>
			query.search(
				create(QueryRequestSchema, { ...filters, pageToken: first.nextPageToken } as Filters),
				tenant as TenantId,
			);
		expect((await again({ pageSize: 9, order: Order.NEWEST_FIRST }, "bound")).events).toHaveLength(2);
		const refused = { code: "invalid_argument", reason: "INVALID_PAGE_TOKEN" };
		await expect(again({}, "acme")).rejects.toMatchObject(refused);
		await expect(again({ order: Order.OLDEST_FIRST }, "bound")).rejects.toMatchObject(refused);
		await expect(again({ actions: ["user.login"] }, "bound")).rejects.toMatchObject(refused);
	});

	test("can be followed by another service with the same secret, and by none with another", async () => {
		const first = await query.search(create(QueryRequestSchema, { pageSize: 1 }), "bound" as TenantId);
		const next = create(QueryRequestSchema, { pageToken: first.nextPageToken });
		const restarted = new Query({ db: path.db, pageTokenKey: pageTokens });
		expect((await restarted.search(next, "bound" as TenantId)).events).toHaveLength(2);
		const other = new Query({ db: path.db, pageTokenKey: deriveKeys("another secret").pageTokens });
		await expect(other.search(next, "bound" as TenantId)).rejects.toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
	});
});

test("a search that PostgreSQL ends for taking too long says what to change", async () => {
	await write([{ tenantId: "slow", occurredAt: at(NOON) }]);
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	try {
		await admin.query("BEGIN");
		await admin.query("LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE");
		const search = query.search(create(QueryRequestSchema), "slow" as TenantId);
		const refused = expect(search).rejects.toMatchObject({ code: "deadline_exceeded", reason: "SEARCH_TOO_SLOW" });
		// The server's own limit ends a statement just as this does.
		await waitFor(async () => {
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
