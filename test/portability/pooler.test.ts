import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deriveKeys, rolePassword } from "../../src/auth/secret.ts";
import { type AuditClient, createAuditClient } from "../../src/client/index.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { CommitUnknown, writeTransaction } from "../../src/storage/transaction.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type NatsClient, openNatsClient, untilDrained } from "../support/nats-client.ts";
import { type PgBouncer, startPgBouncer } from "../support/pgbouncer.ts";
import { type PostgresProxy, startPostgresProxy } from "../support/postgres-proxy.ts";
import { runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

/** A pooler in transaction mode between the service and PostgreSQL: nothing may be left to a session. */

let database: TestDatabase;
let pooler: PgBouncer;

beforeAll(async () => {
	database = await createTestDatabase();
	const direct = { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() };
	const { stdout, stderr } = await runCli(["migrate", "--pooler-users"], direct);
	expect(stderr).toMatch(/^the database is up to date/);
	pooler = await startPgBouncer(database.url, stdout);
});

afterAll(async () => {
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await pooler?.stop();
	await database?.drop();
});

describe("the service", () => {
	let service: ServiceProcess;
	let nats: Nats;
	let natsClient: NatsClient;
	let key: string;

	beforeAll(async () => {
		nats = await startOwnNats();
		const env = { DATABASE_URL: pooler.url, AUDIT_SECRET: testSecret() };
		service = await startService({ ...env, NATS_URL: nats.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
		const args = ["key", "create", "--role", "operator", "--name", "test", "--all-tenants"];
		key = (await runCli(args, { ...env, DATABASE_URL: database.url })).stdout.trim();
		natsClient = await openNatsClient(nats.url);
	});
	afterAll(async () => {
		await natsClient?.close();
		await service?.stop();
		await nats?.stop();
	});
	const client = (): AuditClient => createAuditClient({ url: service.httpUrl, key });

	test("writes by both doors and reads back, of each tenant its own, when its clients share few connections", async () => {
		const tenants = ["acme", "globex", "initech"];
		const login = (tenantId: string) => ({ tenantId, action: "user.login", actor: { id: "u" } });
		await natsClient.publish(
			Array.from({ length: 300 }, (_, i) => ({
				subject: `audit.events.${tenants[i % 3]}`,
				data: JSON.stringify({ action: "by.nats", actor: { id: "u" } }),
			})),
		);
		await Promise.all(
			Array.from({ length: 60 }, (_, i) => client().writeEvent({ event: login(tenants[i % 3] as string) })),
		);
		await untilDrained(natsClient);
		const found = await Promise.all(
			Array.from({ length: 30 }, async (_, i) => {
				const tenantId = tenants[i % 3] as string;
				const { events } = await client().query({ tenantId, pageSize: 1_000, actions: ["user.login", "by.nats"] });
				return { events: events.length, others: events.filter((event) => event.tenantId !== tenantId).length };
			}),
		);
		expect(found).toEqual(Array(30).fill({ events: 120, others: 0 }));
		expect((await fetch(`${service.httpUrl}/readyz`)).status).toBe(200);
	});

	test("its trail is proven through the pooler, too", async () => {
		const { exitCode, stdout } = await runCli(["verify"], { DATABASE_URL: pooler.url, AUDIT_SECRET: testSecret() });
		expect(stdout).toMatch(/^proven: /);
		expect(exitCode).toBe(0);
	});
});

test("the roles' time limits hold although no connection asks for them", async () => {
	const url = new URL(pooler.url);
	url.username = "audit_writer";
	url.password = rolePassword(deriveKeys(testSecret()), "audit_writer");
	const writer = new Client({ connectionString: url.href });
	await writer.connect();
	const { rows } = await writer.query(
		"SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock",
	);
	await writer.end();
	expect(rows).toEqual([{ statement: "10s", lock: "5s" }]);
});

describe("when the reply to COMMIT is lost", () => {
	let proxy: PostgresProxy;
	let path: WritePath;

	beforeAll(async () => {
		proxy = await startPostgresProxy(pooler.url);
		path = openWritePath({ databaseUrl: proxy.url, secret: testSecret() });
		await path.ingest.accept([anEvent()], aWriter(), { atomic: false });
	});
	afterAll(async () => {
		await path.close();
		await proxy.close();
	});

	test.each(["lose the reply", "break before", "roll back instead"] as const)(
		"what became of it is found out, or the caller told: %s",
		async (fault) => {
			const id = randomUUID();
			const event = anEvent({ id, occurredAt: { seconds: BigInt(Math.floor(Date.now() / 1000) - 60), nanos: 0 } });
			proxy.next(fault);
			const write = () => path.ingest.accept([event], aWriter(), { atomic: false });
			const [result] = await write().catch(write);
			expect(result?.ok).toBe(true);
			expect(proxy.applied).toBeGreaterThan(0);
			const admin = new Client({ connectionString: database.url });
			await admin.connect();
			const { rows } = await admin.query("SELECT count(*)::int AS n FROM audit.events WHERE id = $1", [id]);
			await admin.end();
			expect(rows).toEqual([{ n: 1 }]);
		},
	);

	test("the server process that had the transaction is known, not the pooler's number for the client", async () => {
		let serverPid = 0;
		const lost = writeTransaction(path.db, async (client) => {
			const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
			serverPid = rows[0]?.pid ?? 0;
			proxy.next("lose the reply");
		});
		await expect(lost).rejects.toBeInstanceOf(CommitUnknown);
		await expect(lost).rejects.toMatchObject({ backendPid: serverPid });
	});
});
