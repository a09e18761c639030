import { createSecretKey } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import pg from "pg";
import { expect } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { createUuidV7Source } from "../../src/client/uuidv7.ts";
import { AuditError } from "../../src/errors.ts";
import type { TenantId } from "../../src/event/event.ts";
import { GetEventRequestSchema, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { Query } from "../../src/query/query.ts";
import { type Database, inLetters, inTenant } from "../../src/storage/db.ts";
import type { DeadLetter } from "../../src/storage/dead-letters.ts";
import { createTestDatabase, testSecret } from "./services.ts";
import { anEvent, aWriter, openWritePath } from "./write-path.ts";

/**
 * Many requests of several tenants at once over two connections, some of which break half way in every manner a request can.
 * What each sees is compared with what was written.
 */

const TENANTS = ["acme", "globex", "initech", "umbrella", "hooli"] as TenantId[];
const CONNECTIONS = 2;
const AT_ONCE = 24;
const EVENTS_EACH = 30;
const ACTORS = 3;

/** An event that every tenant has under the very same id, each with a description of its own. */
interface Shared {
	readonly id: string;
	readonly actor: string;
}
const descriptionIn = (tenant: string, id: string) => `${tenant} ${id}`;

/** What a request does; the first of `KINDS` succeed, the others break. */
type Kind = keyof typeof KINDS;
interface Request {
	readonly kind: Kind;
	readonly tenant: TenantId;
	readonly n: number;
}

interface World {
	readonly db: Database;
	readonly query: Query;
	readonly events: readonly Shared[];
	/** A connection of the superuser's, to end others with. */
	readonly admin: pg.Client;
}

const seeAll = "SELECT tenant_id, id FROM audit.events WHERE kind = 1";

/** Each does one request and says what is wrong with its answer, if anything. */
const KINDS = {
	async everything({ db, events }: World, { tenant }: Request) {
		const { rows } = await inTenant(db, tenant, (client) => client.query(seeAll));
		// Without a condition of its own: what row-level security lets through.
		expect(rows.map((row) => `${row.tenant_id} ${row.id}`).sort()).toEqual(
			events.map(({ id }) => descriptionIn(tenant, id)).sort(),
		);
	},
	async search({ query, events }: World, { tenant, n }: Request) {
		const actor = `user-${n % ACTORS}`;
		const request = create(QueryRequestSchema, { actorIds: [actor], pageSize: 1000 });
		const found = (await query.search(request, tenant, NOTHING_MASKED)).events;
		expect(found.map(({ description }) => description).sort()).toEqual(
			events
				.filter((event) => event.actor === actor)
				.map(({ id }) => descriptionIn(tenant, id))
				.sort(),
		);
	},
	async pages({ query, events }: World, { tenant }: Request) {
		const seen: string[] = [];
		let pageToken = "";
		do {
			const request = create(QueryRequestSchema, { categories: [], actions: ["user.login"], pageSize: 13, pageToken });
			const page = await query.search(request, tenant, NOTHING_MASKED);
			seen.push(...page.events.map(({ description }) => description));
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
		expect(seen.sort()).toEqual(events.map(({ id }) => descriptionIn(tenant, id)).sort());
	},
	async get({ query, events }: World, { tenant, n }: Request) {
		const { id } = events[n % events.length] as Shared;
		const event = await query.get(create(GetEventRequestSchema, { id }), tenant, NOTHING_MASKED);
		expect([event.tenantId, event.description]).toEqual([tenant, descriptionIn(tenant, id)]);
	},
	async letters({ db }: World, { tenant, n }: Request) {
		const other = TENANTS[n % TENANTS.length] as TenantId;
		const { rows } = await inLetters(db, new Set([tenant, other]), (client) =>
			client.query("SELECT DISTINCT tenant_id FROM audit.dead_letters"),
		);
		expect(new Set(rows.map(({ tenant_id }) => tenant_id))).toEqual(new Set([tenant, other]));
	},
	/** The next user of a connection, if it forgot its tenant. */
	async forgotten({ db }: World) {
		for (const table of ["audit.events", "audit.tenants", "audit.dead_letters"])
			expect((await db.reader.query(`SELECT FROM ${table}`)).rowCount).toBe(0);
	},
	async stranger({ query }: World) {
		const search = query.search(create(QueryRequestSchema), "nobody" as TenantId, NOTHING_MASKED);
		await expect(search).rejects.toMatchObject({ reason: "TENANT_NOT_FOUND" });
	},
	async failing({ db }: World, { tenant }: Request) {
		const failed = inTenant(db, tenant, async (client) => {
			await client.query(seeAll);
			await client.query("SELECT 1 / 0");
		});
		await expect(failed).rejects.toMatchObject({ code: "22012" });
	},
	async throwing({ db }: World, { tenant }: Request) {
		const failed = inTenant(db, tenant, async (client) => {
			await client.query(seeAll);
			throw new Error("its own");
		});
		await expect(failed).rejects.toThrow("its own");
	},
	/** Leaves while its statement still runs. */
	async leaving({ db }: World, { tenant }: Request) {
		const failed = inTenant(db, tenant, async (client) => {
			client.query(`SELECT pg_sleep(0.02), tenant_id FROM audit.events LIMIT 2`).catch(() => {});
			throw new Error("gone");
		});
		await expect(failed).rejects.toThrow("gone");
	},
	/** The server's time limit. */
	async tooSlow({ db }: World, { tenant }: Request) {
		const failed = inTenant(db, tenant, async (client) => {
			await client.query("SET LOCAL statement_timeout = 2");
			await client.query("SELECT pg_sleep(30) FROM audit.events");
		});
		await expect(failed).rejects.toMatchObject({ cause: { code: "57014" } });
	},
	/** Ours: the answer may come on the connection after nobody waits for it. */
	async unanswered({ db }: World, { tenant }: Request) {
		const failed = inTenant(db, tenant, (client) =>
			client.query({
				text: "SELECT pg_sleep(3), tenant_id FROM audit.events LIMIT 1",
				query_timeout: 5,
			} as pg.QueryConfig),
		);
		await expect(failed).rejects.toBeInstanceOf(AuditError);
	},
	async ended({ db, admin }: World, { tenant }: Request) {
		const failed = inTenant(db, tenant, async (client) => {
			const { rows } = await client.query("SELECT pg_backend_pid() AS pid");
			await admin.query("SELECT pg_terminate_backend($1)", [rows[0].pid]);
			await client.query(seeAll);
		});
		await expect(failed).rejects.toMatchObject({ code: "unavailable" });
	},
	async cut({ db }: World, { tenant }: Request) {
		const failed = inTenant(db, tenant, async (client) => {
			(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
			await client.query(seeAll);
		});
		await expect(failed).rejects.toMatchObject({ code: "unavailable" });
	},
} satisfies Record<string, (world: World, request: Request) => Promise<void>>;

/** Those that break are rarer: each costs a new connection. */
const requests: fc.Arbitrary<Request> = fc.record({
	kind: fc.oneof(
		{
			weight: 5,
			arbitrary: fc.constantFrom<Kind>("everything", "search", "pages", "get", "letters", "forgotten", "stranger"),
		},
		{
			weight: 1,
			arbitrary: fc.constantFrom<Kind>("failing", "throwing", "leaving", "tooSlow", "unanswered", "ended", "cut"),
		},
	),
	tenant: fc.constantFrom(...TENANTS),
	n: fc.nat(10_000),
});

/** Makes so many requests; fails with the seed that made them and the first that went wrong. */
export async function interleaveTenants(count: number): Promise<void> {
	const database = await createTestDatabase();
	const path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	const admin = new pg.Client({ connectionString: database.url });
	const reader = smallPool(path.db.reader);
	try {
		await admin.connect();
		const events = await writeShared(path);
		const db = { ...path.db, reader };
		const query = new Query({ db, pageTokenKey: createSecretKey(Buffer.alloc(32, 7)) });
		const world = { db, query, events, admin };
		const seed = Number(process.hrtime.bigint() % 2_147_483_647n);
		const plan = fc.sample(requests, { numRuns: count, seed });
		expect(new Set(plan.map(({ kind }) => kind)).size).toBe(Object.keys(KINDS).length);
		const wrong: string[] = [];
		let next = 0;
		await Promise.all(
			Array.from({ length: AT_ONCE }, async () => {
				for (let i = next++; i < plan.length && wrong.length === 0; i = next++) {
					const request = plan[i] as Request;
					await KINDS[request.kind](world, request).catch((error: unknown) => {
						wrong.push(`seed ${seed}, request ${i}, ${JSON.stringify(request)}: ${String(error)}`);
					});
				}
			}),
		);
		expect(wrong).toEqual([]);
		expect(reader.totalCount).toBeLessThanOrEqual(CONNECTIONS);
	} finally {
		await reader.end();
		await admin.end();
		await path.close();
		await database.drop();
	}
}

/** As the service's own pool, but for its size. Waiting for a connection is what most requests do here. */
function smallPool({ options }: pg.Pool): pg.Pool {
	const pool = new pg.Pool({ ...options, max: CONNECTIONS, connectionTimeoutMillis: 60_000 });
	pool.on("connect", (client) => void client.on("error", () => {}));
	pool.on("error", () => {});
	return pool;
}

/** The same ids for every tenant, and a letter each. */
async function writeShared(path: ReturnType<typeof openWritePath>): Promise<Shared[]> {
	const nextId = createUuidV7Source();
	const now = Date.now();
	const events = Array.from({ length: EVENTS_EACH }, (_, i) => ({
		id: nextId(now - i * 1000),
		actor: `user-${i % ACTORS}`,
	}));
	for (const tenantId of TENANTS) {
		const written = await path.ingest.accept(
			events.map(({ id, actor }) =>
				anEvent({ tenantId, id, actor: { id: actor }, description: descriptionIn(tenantId, id) }),
			),
			aWriter(),
			{ atomic: true },
		);
		expect(written.every((result) => result.ok && !result.duplicate)).toBe(true);
	}
	const deadLetters = TENANTS.map(
		(tenantId, i): DeadLetter => ({
			streamCreated: new Date("2026-01-31T12:00:00Z"),
			streamSeq: BigInt(i + 1),
			position: 0,
			subject: `audit.events.${tenantId}`,
			headers: {},
			body: Buffer.from(tenantId),
			isPart: false,
			publishedAt: 1_769_860_800_000_000n as DeadLetter["publishedAt"],
			tenantId,
			reason: "INVALID_EVENT",
			message: tenantId,
			violations: [],
		}),
	);
	await path.appender.append([{ rows: [], atomic: false, deadLetters }]);
	return events;
}
