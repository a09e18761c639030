import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Principal } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import { AuditError } from "../../src/errors.ts";
import type { TenantId } from "../../src/event/event.ts";
import { createLogger } from "../../src/logger.ts";
import { type Read, ReadLog, TELL_EVERY_MS } from "../../src/query/read-log.ts";
import { ServiceLog } from "../../src/storage/service-log.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { openWritePath, type WritePath } from "../support/write-path.ts";

/** What is recorded of reads as time goes by, by a clock of the test's own, in a real database. */

let database: TestDatabase;
let path: WritePath;
let admin: Client;
let log: ReadLog;
let batches = 0;
let now = Date.now();

beforeEach(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	for (const tenant of ["acme", "globex"]) await path.tenants.create(tenant as TenantId, tenant);
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	batches = 0;
	now = Date.now();
	log = newLog();
});
afterEach(async () => {
	await log.close();
	await path.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await database.drop();
});

function newLog(): ReadLog {
	const { manifests: manifestKey, contentMacs: contentMacKey } = deriveKeys(testSecret());
	const { db, partitions } = path;
	const onAppended = () => void (batches += 1);
	const service = new ServiceLog({ db, partitions, manifestKey, contentMacKey, onAppended });
	return new ReadLog({ log: service, logger: createLogger("silent"), now: () => now });
}

function reader(init: Partial<Principal> = {}): Principal {
	return {
		kind: "api_key",
		id: "key-1",
		keyId: "key-1",
		name: "Jane's key",
		roles: new Set(["reader"]),
		tenants: "all",
		maskedUnits: new Set(),
		expiresAt: undefined,
		...init,
	};
}

function aRead(init: Partial<Read> = {}): Read {
	return {
		tenantId: "acme" as TenantId,
		principal: reader(),
		method: "Query",
		protocol: "grpc",
		address: "192.0.2.7",
		requestId: "request-1",
		asked: { stated: { actions: ["user.*"] }, canonical: "user.*" },
		returned: 3,
		...init,
	};
}

const read = (init?: Partial<Read>) => log.recorded([aRead(init)], "the answer");

interface Summary {
	readonly method: string;
	readonly reads: number;
	readonly returned: number;
	readonly first_read_at: string;
	readonly last_read_at: string;
}

async function stored<T>(action: string, tenant = "acme") {
	const { rows } = await admin.query<{ id: string; related: string | null; metadata: T }>(
		`SELECT id, u_resources::jsonb #>> '{related_resources,0,id}' AS related, u_metadata::jsonb AS metadata
		 FROM audit.events WHERE action = $1 AND tenant_id = $2 ORDER BY batch_id, ord`,
		[action, tenant],
	);
	return rows;
}
const reads = (tenant?: string) => stored<{ returned: number }>("audit.read", tenant);
const summaries = (tenant?: string) => stored<Summary>("audit.read.summary", tenant);
const iso = (ms: number) => new Date(ms).toISOString().replace("Z", "000Z");
const MINUTE = 60_000;

/** Lets time go by as the service does: looking at what is due every `TELL_EVERY_MS`. */
async function pass(ms: number): Promise<void> {
	for (const end = now + ms; now < end; ) {
		now = Math.min(end, now + TELL_EVERY_MS);
		await log.tellDue();
	}
}

describe("a read", () => {
	test("is in the log before its answer is there, with who, whence, what and how much", async () => {
		expect(await read({ shows: { type: "event", id: "some id" } })).toBe("the answer");
		const { rows } = await admin.query(
			`SELECT u_actor::jsonb #> '{actor}' AS actor, u_context::jsonb AS context, u_metadata::jsonb AS metadata,
			        u_resources::jsonb AS resources, category, kind
			 FROM audit.events WHERE action = 'audit.read'`,
		);
		expect(rows).toEqual([
			{
				actor: { type: "ACTOR_TYPE_API_KEY", id: "key-1", display_name: "Jane's key" },
				context: { ip_address: "192.0.2.7", request_id: "request-1" },
				metadata: { method: "Query", protocol: "grpc", filter: { actions: ["user.*"] }, returned: 3 },
				resources: {
					primary_resource: { type: "audit_log", id: "acme" },
					related_resources: [{ type: "event", id: "some id" }],
				},
				category: 3,
				kind: 2,
			},
		]);
	});

	test("of the same is counted for 10 minutes, and told of again after them", async () => {
		await read();
		now += 10 * MINUTE - 1;
		await read();
		expect(await reads()).toHaveLength(1);
		now += 1;
		await read();
		expect(await reads()).toHaveLength(2);
	});

	test.each<[string, Partial<Read>]>([
		["principal", { principal: reader({ id: "key-2" }) }],
		["kind of principal", { principal: reader({ kind: "jwt" }) }],
		["method", { method: "GetEvent" }],
		["filter", { asked: { stated: {}, canonical: "" } }],
		["address", { address: "192.0.2.8" }],
	])("of another %s is another", async (_what, other) => {
		await read();
		await read(other);
		await read({ protocol: "rest", requestId: "another", principal: reader({ keyId: "rotated" }), returned: 0 });
		expect(await reads()).toHaveLength(2);
	});

	test("that shows something of two tenants is in both logs, and not in that of one who does not exist", async () => {
		const answer = [aRead(), aRead({ tenantId: "globex" as TenantId }), aRead({ tenantId: "nobody" as TenantId })];
		await log.recorded(answer, "the answer");
		expect([await reads("acme"), await reads("globex")].map(({ length }) => length)).toEqual([1, 1]);
		await path.tenants.create("nobody" as TenantId, "nobody");
		// The tenant's log begins now, and so does what is recorded in it.
		await log.recorded(answer, "the answer");
		expect(await reads("nobody")).toHaveLength(1);
	});

	test("made 50 times at once is one event, and different ones share transactions", async () => {
		await Promise.all(Array.from({ length: 50 }, () => read()));
		expect(await reads()).toHaveLength(1);
		const before = batches;
		await Promise.all(Array.from({ length: 50 }, (_, i) => read({ method: `Query${i}` })));
		expect(await reads()).toHaveLength(51);
		expect(batches - before).toBeLessThan(5);
	});

	test("that cannot be stored turns away all who wait for it, and nobody else; the next one is told of", async () => {
		await admin.query(
			`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			   IF NEW.u_context LIKE '%192.0.2.66%' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$`,
		);
		await admin.query("CREATE TRIGGER refuse BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION refuse()");
		const refused = [1, 2, 3].map(() => read({ address: "192.0.2.66" }));
		const good = [1, 2, 3].map((n) => read({ method: `Query${n}` }));
		for (const outcome of await Promise.allSettled(refused)) {
			const { code, reason } = (outcome as PromiseRejectedResult).reason as AuditError;
			expect([code, reason]).toEqual(["unavailable", "READ_NOT_RECORDED"]);
		}
		expect(await Promise.all(good)).toHaveLength(3);
		expect(await reads()).toHaveLength(3);
		await admin.query("DROP TRIGGER refuse ON audit.events");
		await read({ address: "192.0.2.66" });
		expect(await reads()).toHaveLength(4);
		await log.close();
		// Reads nobody got an answer to are in no summary.
		const ofRefused = (await summaries()).filter(({ metadata }) => metadata.reads !== 1);
		expect(ofRefused).toEqual([]);
	});

	test("is told of again when the clock was set back", async () => {
		await read();
		now -= 5 * MINUTE;
		await read();
		expect(await reads()).toHaveLength(2);
	});
});

describe("a summary", () => {
	test("has counted, and is there 5 minutes after the last read at the latest", async () => {
		const first = now;
		await read();
		await pass(MINUTE);
		await read({ returned: 10 });
		await read({ returned: 0 });
		const last = now;
		await pass(3 * MINUTE);
		expect(await summaries()).toEqual([]);
		await pass(2 * MINUTE - 1);
		const [event] = await reads();
		expect(await summaries()).toEqual([
			{
				id: expect.any(String),
				related: event?.id,
				metadata: { method: "Query", reads: 3, returned: 13, first_read_at: iso(first), last_read_at: iso(last) },
			},
		]);
		await pass(20 * MINUTE);
		expect(await summaries()).toHaveLength(1);
	});

	test("of a single read there is one, too: an event without one is of a crash, or of just now", async () => {
		await read();
		await pass(5 * MINUTE - 1);
		expect((await summaries()).map(({ metadata: { reads: n, returned } }) => [n, returned])).toEqual([[1, 3]]);
	});

	test("comes though the reads go on; all of them are counted once, whatever the events", async () => {
		let n = 0;
		let lastTold = now;
		for (const end = now + 60 * MINUTE; now < end; await pass(MINUTE)) {
			await read({ returned: 2 });
			n += 1;
			const told = (await summaries()).at(-1)?.metadata.last_read_at;
			if (told) lastTold = Date.parse(told);
			// Not later than the window's end and a look.
			expect(now - lastTold).toBeLessThanOrEqual(11 * MINUTE);
		}
		await log.close();
		const counts = (await summaries()).map(({ metadata }) => metadata);
		expect(counts.reduce((sum, each) => sum + each.reads, 0)).toBe(n);
		expect(counts.reduce((sum, each) => sum + each.returned, 0)).toBe(2 * n);
		expect(await reads()).toHaveLength(6);
	});

	test("is followed by another if reading goes on within the 10 minutes, which need no new event", async () => {
		await read();
		await pass(5 * MINUTE);
		await read();
		await pass(5 * MINUTE);
		expect(await reads()).toHaveLength(1);
		expect((await summaries()).map(({ metadata }) => metadata.reads)).toEqual([1, 1]);
	});

	test("is stored at the end, for every window", async () => {
		await read();
		await read();
		await read({ method: "GetEvent" });
		await read({ tenantId: "globex" as TenantId });
		await log.close();
		expect((await summaries()).map(({ metadata }) => [metadata.method, metadata.reads])).toEqual([
			["Query", 2],
			["GetEvent", 1],
		]);
		expect(await summaries("globex")).toHaveLength(1);
	});

	test("that cannot be stored is tried again, and has lost nothing", async () => {
		await read();
		await admin.query("ALTER TABLE audit.manifests RENAME TO away");
		now += 5 * MINUTE;
		await expect(log.tellDue()).rejects.toThrow();
		await expect(read({ method: "GetEvent" })).rejects.toThrow(AuditError);
		await read();
		await admin.query("ALTER TABLE audit.away RENAME TO manifests");
		await pass(5 * MINUTE);
		expect((await summaries()).map(({ metadata }) => metadata.reads)).toEqual([1, 1]);
	});

	test("comes early when there are more windows than are kept: what is read cannot fill the memory", async () => {
		const names = Array.from({ length: 10_050 }, (_, i) => `Query${i}`);
		for (let i = 0; i < names.length; i += 1_000) {
			await Promise.all(names.slice(i, i + 1_000).map((method) => read({ method })));
		}
		expect(await reads()).toHaveLength(10_050);
		// Those which were begun first have ended.
		await log.tellDue();
		const early = (await summaries()).map(({ metadata }) => metadata.method);
		expect(early.toSorted()).toEqual(names.slice(0, 50).toSorted());
		await read({ method: "Query10049" });
		expect(await reads()).toHaveLength(10_050);
		await read({ method: "Query0" });
		expect(await reads()).toHaveLength(10_051);
	});
});
