import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { TenantId } from "../../../src/event/event.ts";
import type { ItemResult } from "../../../src/ingest/ingest.ts";
import { checkTrail } from "../../support/check-trail.ts";
import { type PostgresProxy, startPostgresProxy } from "../../support/postgres-proxy.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../../support/write-path.ts";

let database: TestDatabase;
let proxy: PostgresProxy;
let path: WritePath;
let admin: Client;
const writer = aWriter();
const occurredAt = { seconds: BigInt(Math.floor(Date.now() / 1000) - 3600), nanos: 123_456_000 };

beforeEach(async () => {
	database = await createTestDatabase();
	proxy = await startPostgresProxy(database.url);
	path = openWritePath({ databaseUrl: proxy.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
});

afterEach(async () => {
	await path.close();
	await proxy.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await database.drop();
});

const accept = (events: ReturnType<typeof anEvent>[], atomic = false) => path.ingest.accept(events, writer, { atomic });

async function stored(): Promise<number> {
	const { rows } = await admin.query("SELECT count(*)::int AS n FROM audit.events WHERE kind = 1");
	return rows[0].n;
}

function codes(results: ItemResult[]): string[] {
	return results.map((result) => (result.ok ? (result.duplicate ? "duplicate" : "stored") : result.error.reason));
}

describe("one batch", () => {
	test("is rows, leaves and one manifest of one transaction; the receipt names it", async () => {
		const results = await accept([anEvent(), anEvent({ tenantId: "globex" }), anEvent()]);
		expect(codes(results)).toEqual(["stored", "stored", "stored"]);
		const receipts = results.map((result) => (result.ok ? result.event : undefined));
		const { rows } = await admin.query(
			"SELECT id, batch_id, leaf_hash, ord FROM audit.events WHERE kind = 1 ORDER BY ord",
		);
		expect(new Set(rows.map((row) => row.batch_id)).size).toBe(1);
		expect(new Set(rows.map((row) => row.id))).toEqual(new Set(receipts.map((receipt) => receipt?.id)));
		expect(rows.every((row) => receipts.some((receipt) => String(receipt?.batchId) === row.batch_id))).toBe(true);
	});

	test("every tenant's log begins with audit.log.created, also when many write to it at once", async () => {
		await Promise.all(Array.from({ length: 8 }, (_, i) => accept([anEvent({ tenantId: `t-${i % 2}` })])));
		const { rows } = await admin.query(
			"SELECT tenant_id, count(*)::int AS n FROM audit.events WHERE action = 'audit.log.created' GROUP BY 1 ORDER BY 1",
		);
		expect(rows).toEqual([
			{ tenant_id: "t-0", n: 1 },
			{ tenant_id: "t-1", n: 1 },
		]);
	});

	test("concurrent calls share transactions", async () => {
		await accept([anEvent()]);
		const before = path.heads.length;
		await Promise.all(Array.from({ length: 50 }, () => accept([anEvent()])));
		expect(path.heads.length - before).toBeLessThan(25);
		expect(await stored()).toBe(51);
	});

	test("old events find their month's partition made on demand", async () => {
		const old = { seconds: BigInt(Date.UTC(new Date().getUTCFullYear() - 9, 2, 5) / 1000), nanos: 0 };
		expect(codes(await accept([anEvent({ occurredAt: old })]))).toEqual(["stored"]);
	});

	test("a partition dropped behind the service's back is made again", async () => {
		await accept([anEvent()]);
		const old = { seconds: BigInt(Date.UTC(new Date().getUTCFullYear() - 5, 2, 5) / 1000), nanos: 0 };
		await path.partitions.ensure([(old.seconds * 1_000_000n) as never]);
		await admin.query(`DROP TABLE audit.events_${new Date().getUTCFullYear() - 5}_03`);
		expect(codes(await accept([anEvent({ occurredAt: old })]))).toEqual(["stored"]);
	});

	test("so is one that is missing for what the service itself tells", async () => {
		await path.partitions.ensureAhead(new Date());
		await admin.query(`DROP TABLE audit.events_${new Date().toISOString().slice(0, 7).replace("-", "_")}`);
		expect(await path.tenants.create("acme" as TenantId)).toMatchObject({ changed: true });
	});
});

describe("retries and reuse of a key", () => {
	test("the same event again is a duplicate with the first receipt", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt, metadata: { a: 1 } });
		const [first] = await accept([event]);
		const [second] = await accept([event]);
		expect(codes([second as ItemResult])).toEqual(["duplicate"]);
		expect(second?.ok && second.event).toEqual(first?.ok && first.event);
		expect(await stored()).toBe(1);
	});

	test("the same key with other content is refused, and alone: the rest of its call is stored", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt });
		await accept([event]);
		const results = await accept([anEvent(), { ...event, action: "user.logout" }, anEvent()]);
		expect(codes(results)).toEqual(["stored", "ID_REUSED", "stored"]);
		expect(await stored()).toBe(3);
	});

	test("the same key twice in one call: a duplicate if equal, refused if not", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt });
		expect(codes(await accept([event, event, { ...event, action: "x.y" }]))).toEqual([
			"stored",
			"duplicate",
			"ID_REUSED",
		]);
		expect(await stored()).toBe(1);
	});

	test("an atomic call with a reused key stores nothing", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt });
		await accept([event]);
		await expect(accept([anEvent(), { ...event, action: "x.y" }], true)).rejects.toMatchObject({
			code: "already_exists",
			reason: "ID_REUSED",
		});
		expect(await stored()).toBe(1);
	});

	test("tenants never share keys: the same id and time is another event for another tenant", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt });
		expect(codes(await accept([event, { ...event, tenantId: "globex", action: "x.y" }]))).toEqual(["stored", "stored"]);
	});

	test("a conflict takes only its own call out of a shared transaction", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt });
		await accept([event]);
		const before = path.heads.length;
		// The first call is in flight alone; the others share the next transaction.
		const results = await Promise.all([
			accept([anEvent()]),
			accept([anEvent()]),
			accept([{ ...event, action: "x.y" }]),
			accept([anEvent()]),
			accept([event]),
		]);
		expect(codes(results.flat())).toEqual(["stored", "stored", "ID_REUSED", "stored", "duplicate"]);
		expect(path.heads.length - before).toBe(2);
	});

	test("a crowd of retries shares a transaction: nothing new is stored, and nobody waits for the others one by one", async () => {
		const events = Array.from({ length: 200 }, () => anEvent({ id: randomUUID(), occurredAt }));
		await Promise.all(events.map((event) => accept([event])));
		const before = proxy.commits;
		const results = await Promise.all(events.map((event) => accept([event])));
		expect(codes(results.flat())).toEqual(Array(200).fill("duplicate"));
		// The first comes alone; what came meanwhile shares one transaction, or two.
		expect(proxy.commits - before).toBeLessThan(10);
	});

	test("a contradiction and a true retry in one call are told apart, whichever comes first", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt });
		await accept([event]);
		const other = { ...event, action: "x.y" };
		expect(codes(await accept([other, event]))).toEqual(["ID_REUSED", "duplicate"]);
		expect(codes(await accept([event, other]))).toEqual(["duplicate", "ID_REUSED"]);
	});

	test("an atomic call that is refused makes no tenant either", async () => {
		const call = accept([anEvent({ tenantId: "brand-new" }), anEvent({ action: "NO" })], true);
		await expect(call).rejects.toMatchObject({ code: "invalid_argument" });
		expect((await admin.query("SELECT FROM audit.tenants WHERE id = 'brand-new'")).rowCount).toBe(0);
	});

	test("an atomic call with a tenant that the key cannot see stores nothing", async () => {
		await path.tenants.create("acme" as never, "acme");
		const call = path.ingest.accept([anEvent(), anEvent({ tenantId: "globex" })], aWriter("acme"), { atomic: true });
		await expect(call).rejects.toMatchObject({ code: "not_found" });
		expect(await stored()).toBe(0);
	});

	test("the same new event written many times at once is stored once", async () => {
		const second = openWritePath({ databaseUrl: database.url, secret: testSecret() });
		await second.tenants.create("acme" as never, "acme");
		const event = anEvent({ id: randomUUID(), occurredAt });
		const results = await Promise.all(
			Array.from({ length: 20 }, (_, i) => (i % 2 ? path : second).ingest.accept([event], writer, { atomic: false })),
		);
		expect(codes(results.flat()).sort()).toEqual([...Array(19).fill("duplicate"), "stored"]);
		await second.close();
	});
});

describe("a row the database refuses", () => {
	beforeEach(async () => {
		await accept([anEvent()]);
		// What admission let through by mistake: the database has a rule of its own.
		await admin.query("ALTER TABLE audit.events ADD CONSTRAINT no_poison CHECK (action <> 'poison.row')");
	});

	test("is found among good ones and refused alone", async () => {
		const events = Array.from({ length: 100 }, (_, i) => anEvent(i % 33 === 7 ? { action: "poison.row" } : {}));
		const results = codes(await accept(events));
		expect(results.filter((code) => code === "STORAGE_REFUSED")).toHaveLength(3);
		expect(results[7]).toBe("STORAGE_REFUSED");
		expect(await stored()).toBe(98);
	});

	test("does not touch the calls it shared a transaction with", async () => {
		const results = await Promise.all(
			Array.from({ length: 10 }, (_, i) => accept([anEvent(i === 5 ? { action: "poison.row" } : {})])),
		);
		expect(codes(results.flat()).filter((code) => code === "stored")).toHaveLength(9);
	});
});

describe("COMMIT", () => {
	beforeEach(async () => {
		await accept([anEvent()]);
	});

	test("answered ROLLBACK is not taken for a commit: the caller is told to try again", async () => {
		proxy.next("roll back instead");
		await expect(accept([anEvent()])).rejects.toMatchObject({ code: "unavailable" });
		expect(proxy.applied).toBe(1);
		expect(await stored()).toBe(1);
	});

	test("whose reply is lost is looked up: the events are there, once, and the caller gets the receipt", async () => {
		proxy.next("lose the reply");
		const results = await accept([anEvent({ id: randomUUID(), occurredAt })]);
		expect(proxy.applied).toBe(1);
		expect(codes(results)).toEqual(["stored"]);
		expect(await stored()).toBe(2);
		const [event] = results;
		expect(path.heads.at(-1)?.batchId).toBe(event?.ok && event.event.batchId);
	});

	test.each(["lose the reply", "break before", "roll back instead"] as const)(
		"spoilt while a tenant is made (%s): the tenant is there, or the caller is told to try again",
		async (fault) => {
			proxy.next(fault);
			const event = anEvent({ id: randomUUID(), occurredAt, tenantId: "brand-new" });
			const first = await accept([event]).catch((error: unknown) => error);
			expect(proxy.applied).toBe(1);
			if (first instanceof Error) expect(first).toMatchObject({ code: "unavailable" });
			expect(codes(await accept([event]))).toEqual([first instanceof Error ? "stored" : "duplicate"]);
		},
	);

	test("that never reached the server is found out, and the events are stored after all, once", async () => {
		proxy.next("break before");
		expect(codes(await accept([anEvent(), anEvent()]))).toEqual(["stored", "stored"]);
		expect(proxy.applied).toBe(1);
		expect(await stored()).toBe(3);
	});

	test("lost on the careful path too: a duplicate and a new event in one call", async () => {
		const event = anEvent({ id: randomUUID(), occurredAt });
		await accept([event]);
		const call = accept([event, anEvent()]);
		proxy.next("lose the reply");
		expect(codes(await call)).toEqual(["duplicate", "stored"]);
		expect(proxy.applied).toBe(1);
		expect(await stored()).toBe(3);
	});
});

describe("several replicas", () => {
	test("write side by side, and the manifests stay dense and chained", async () => {
		const replicas = [1, 2, 3].map(() => openWritePath({ databaseUrl: database.url, secret: testSecret() }));
		await Promise.all(
			Array.from({ length: 60 }, (_, i) =>
				(replicas[i % 3] as WritePath).ingest.accept([anEvent({ tenantId: `t-${i % 5}` })], writer, { atomic: false }),
			),
		);
		await Promise.all(replicas.map((replica) => replica.close()));
		const verification = await checkTrail({ databaseUrl: database.url, secret: testSecret() });
		expect(verification.events).toBe(65);
	});
});
