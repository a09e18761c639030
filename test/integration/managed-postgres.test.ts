import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditClient, createAuditClient, createDeadLetterClient } from "../../src/client/index.ts";
import type { Nats } from "../../src/dev/nats.ts";
import type { Postgres } from "../../src/dev/postgres.ts";
import type { TenantId } from "../../src/event/event.ts";
import { microsOf } from "../../src/event/time.ts";
import { DeadLetterState, RedriveOutcome } from "../../src/gen/audit/v1/dead_letter_service_pb.ts";
import { letterId } from "../../src/storage/dead-letters.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createManagedDatabase } from "../support/managed-postgres.ts";
import { type NatsClient, openNatsClient, untilDrained } from "../support/nats-client.ts";
import { type CliResult, runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { startOwnNats, startOwnPostgres, testSecret } from "../support/services.ts";
import { anEvent as anAdmissible, aWriter, openWritePath } from "../support/write-path.ts";

/**
 * PostgreSQL run by somebody else: nobody of ours is a superuser, and no role can be given BYPASSRLS. After the database
 * was made, everything here is done as its owner and as the roles which that one has made.
 */

let postgres: Postgres;
let nats: Nats;
let natsClient: NatsClient;
let service: ServiceProcess;
let owner: Client;
let env: Record<string, string>;
let migrated: CliResult;
/** One key per tenant: what its writer and its readers use. */
let keys: Record<"acme" | "globex", string>;

const occurredAt = { seconds: BigInt(Math.floor(Date.now() / 1000) - 3600), nanos: 123_456_000 };
const anEvent = (init: { id?: string; action?: string } = {}) => ({
	action: "user.login",
	actor: { id: "u" },
	occurredAt,
	...init,
});

beforeAll(async () => {
	[postgres, nats] = await Promise.all([startOwnPostgres(), startOwnNats()]);
	const database = await createManagedDatabase(postgres.url);
	env = { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() };
	owner = new Client({ connectionString: database.url });
	await owner.connect();
	migrated = await runCli(["migrate"], env);
	// A test says so; a setup that fails would only skip it.
	if (migrated.exitCode !== 0) return;
	service = await startService({ ...env, NATS_URL: nats.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	keys = { acme: await createKey("acme"), globex: await createKey("globex") };
	natsClient = await openNatsClient(nats.url);
});

afterAll(async () => {
	await natsClient?.close();
	await owner?.end();
	await service?.stop();
	await nats?.stop();
	await postgres?.stop();
});

async function createKey(tenant: string): Promise<string> {
	const { stdout } = await runCli(["key", "create", "--role", "operator", "--name", "test", "--tenant", tenant], env);
	return stdout.trim();
}

function clientOf(tenant: "acme" | "globex"): AuditClient {
	return createAuditClient({ url: service.httpUrl, key: keys[tenant] });
}

/** What the owner sees when it acts for the role that owns the tables: the owner itself is under row-level security. */
async function ask<T>(sql: string): Promise<T[]> {
	await owner.query("SET ROLE audit_owner");
	const { rows } = await owner.query(sql);
	await owner.query("RESET ROLE");
	return rows as T[];
}

test("migrate works as an owner who is no superuser, says what is lacking, and can be repeated", async () => {
	const { rows } = await owner.query("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user");
	expect(rows).toEqual([{ rolsuper: false, rolbypassrls: false }]);
	expect(migrated).toMatchObject({ exitCode: 0, stderr: "" });
	expect(migrated.stdout).toMatch(/^applied 0001_roles, .*\nnote: audit_writer has no BYPASSRLS.*INSERT/);
	const again = await runCli(["migrate"], env);
	expect(again).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^the database is up to date\nnote: /) });
});

test("the service says once, as a warning, that it stores by INSERT, and is ready all the same", async () => {
	await clientOf("acme").writeEvent({ event: anEvent() });
	const said = service.stdout.split("\n").filter((line) => line.includes("has no BYPASSRLS"));
	expect(said.map((line) => (JSON.parse(line) as { level: number }).level)).toEqual([40]);
	const ready = await fetch(`${service.httpUrl}/readyz`);
	expect(ready.status).toBe(200);
	expect(await ready.text()).not.toMatch(/BYPASSRLS|database/);
});

test("what a pooler has to know is printed, and nothing else: the roles, with the passwords that are theirs", async () => {
	const { stdout, stderr } = await runCli(["migrate", "--pooler-users"], env);
	expect(stderr).toMatch(/^the database is up to date\nnote: /);
	const users = stdout
		.trimEnd()
		.split("\n")
		.map((line) => /^"(\w+)" "([\w-]{32})"$/.exec(line)?.slice(1) ?? []);
	expect(users.map(([role]) => role)).toEqual(["audit_writer", "audit_reader", "audit_maintainer", "audit_verifier"]);
	for (const [role = "", password = ""] of users) {
		const url = new URL(env["DATABASE_URL"] ?? "");
		Object.assign(url, { username: role, password });
		const client = new Client({ connectionString: url.href });
		await client.connect();
		await client.end();
	}
});

describe("writing", () => {
	test("batches, retries and reused keys are told apart as ever", async () => {
		const client = clientOf("acme");
		const ids = Array.from({ length: 300 }, () => randomUUID());
		const first = await client.batchWrite({ events: ids.map((id) => anEvent({ id })) });
		expect(first.results.every(({ result }) => result.case === "written" && !result.value.duplicate)).toBe(true);
		const [one = "", two = ""] = ids;
		const mixed = await client.batchWrite({
			events: [anEvent(), anEvent({ id: one }), anEvent({ id: two, action: "user.logout" })],
		});
		expect(
			mixed.results.map(({ result }) => (result.case === "written" ? result.value.duplicate : result.value?.reason)),
		).toEqual([false, true, "ID_REUSED"]);
	});

	test("old events get their partition", async () => {
		const old = { seconds: BigInt(Date.UTC(new Date().getUTCFullYear() - 8, 2, 5) / 1000), nanos: 0 };
		await clientOf("acme").writeEvent({ event: { ...anEvent(), occurredAt: old } });
		const leaf = `audit.events_${new Date().getUTCFullYear() - 8}_03`;
		expect(await ask(`SELECT to_regclass('${leaf}')::text AS leaf`)).toEqual([{ leaf }]);
	});

	test("messages become events and dead letters, and are acknowledged", async () => {
		const message = (tenant: string, action: string) => ({
			subject: `audit.events.${tenant}`,
			data: JSON.stringify({ action, actor: { id: "u" } }),
		});
		const good = Array.from({ length: 200 }, (_, i) => message(i % 2 ? "acme" : "globex", "by.nats"));
		await natsClient.publish([...good, message("acme", "NOT an action")]);
		await untilDrained(natsClient);
		for (const tenant of ["acme", "globex"] as const) {
			const { events } = await clientOf(tenant).query({ actions: ["by.nats"], pageSize: 1_000 });
			expect(events).toHaveLength(100);
		}
		expect(await ask("SELECT tenant_id, reason FROM audit.dead_letters")).toEqual([
			{ tenant_id: "acme", reason: "INVALID_EVENT" },
		]);
	});
});

test("dead letters are seen, redriven and discarded by the operators of their tenants, who see no others", async () => {
	const path = openWritePath({ databaseUrl: env["DATABASE_URL"] ?? "", secret: testSecret() });
	const letterOf = (tenant: string, seq: bigint) => ({
		streamCreated: new Date("2026-01-31T12:00:00Z"),
		streamSeq: seq,
		position: 0,
		subject: `audit.events.${tenant}`,
		headers: {},
		body: Buffer.from(JSON.stringify({ action: "by.letter", actor: { id: "u" } })),
		isPart: false,
		publishedAt: microsOf({ ...occurredAt, $typeName: "google.protobuf.Timestamp" }),
		tenantId: tenant as TenantId,
		reason: "INVALID_EVENT",
		message: "as it was",
		violations: [],
	});
	const letters = [letterOf("acme", 1n), letterOf("acme", 2n), letterOf("globex", 3n)];
	await path.appender.append([{ rows: [], atomic: false, deadLetters: letters }]);
	await path.close();
	const [one, two, ofGlobex] = letters.map(letterId) as [string, string, string];

	const acme = createDeadLetterClient({ url: service.httpUrl, key: keys.acme });
	const redriven = await acme.redriveDeadLetters({ ids: [one] });
	expect(redriven.results).toMatchObject([{ outcome: RedriveOutcome.STORED, events: [{ tenantId: "acme" }] }]);
	const again = await acme.redriveDeadLetters({ ids: [one] });
	expect(again.results).toMatchObject([{ outcome: RedriveOutcome.DUPLICATE }]);
	const discarded = await acme.discardDeadLetters({ ids: [two], reason: "a test" });
	expect(discarded.results).toMatchObject([{ state: DeadLetterState.DISCARDED, changed: true }]);
	await expect(acme.redriveDeadLetters({ ids: [ofGlobex] })).rejects.toThrow(/not_found/);

	const { deadLetters } = await acme.listDeadLetters({ filter: { reasons: ["INVALID_EVENT"] } });
	expect(new Set(deadLetters.map(({ tenantId }) => tenantId))).toEqual(new Set(["acme"]));
	const states = new Map(deadLetters.map(({ id, state }) => [id, state]));
	expect([states.get(one), states.get(two)]).toEqual([DeadLetterState.REDRIVEN, DeadLetterState.DISCARDED]);
	const { events } = await clientOf("acme").query({ actions: ["by.letter", "audit.dead_letters.*"] });
	expect(events.map(({ action }) => action).sort()).toEqual([
		"audit.dead_letters.discarded",
		"audit.dead_letters.redriven",
		"by.letter",
	]);
});

test("BYPASSRLS taken away while the service runs costs one refusal; the next try is stored by INSERT", async () => {
	const superuser = new Client({ connectionString: postgres.url });
	await superuser.connect();
	await superuser.query("ALTER ROLE audit_writer BYPASSRLS");
	const path = openWritePath({ databaseUrl: env["DATABASE_URL"] ?? "", secret: testSecret() });
	const write = () => path.ingest.accept([anAdmissible({ tenantId: "acme" })], aWriter(), { atomic: false });
	try {
		expect(await path.db.canCopy(path.db.writer)).toBe(true);
		await write();
		await superuser.query("ALTER ROLE audit_writer NOBYPASSRLS");
		await expect(write()).rejects.toMatchObject({ code: "unavailable", reason: "NOT_STORED" });
		expect((await write()).map(({ ok }) => ok)).toEqual([true]);
	} finally {
		await superuser.query("ALTER ROLE audit_writer NOBYPASSRLS");
		await superuser.end();
		await path.close();
	}
});

test("tenants are apart", async () => {
	const { eventId } = await clientOf("globex").writeEvent({ event: anEvent() });
	await expect(clientOf("acme").getEvent({ id: eventId })).rejects.toThrow(/not_found/);
	const { events } = await clientOf("acme").query({ pageSize: 1_000 });
	expect(new Set(events.map(({ tenantId }) => tenantId))).toEqual(new Set(["acme"]));
});

test("no role bypasses row-level security, which is forced on every leaf, and nobody can change what is stored", async () => {
	expect(
		await ask("SELECT rolname FROM pg_roles WHERE rolname LIKE 'audit\\_%' AND (rolbypassrls OR rolsuper)"),
	).toEqual([]);
	const leaves = await ask<{ leaf: string; guarded: boolean }>(
		`SELECT c.oid::regclass::text AS leaf, c.relrowsecurity AND c.relforcerowsecurity AND EXISTS
		        (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'immutable' AND t.tgtype = 58) AS guarded
		 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.events'::regclass`,
	);
	expect(leaves.length).toBeGreaterThanOrEqual(2);
	expect(leaves.filter(({ guarded }) => !guarded)).toEqual([]);
	for (const { leaf } of [{ leaf: "audit.events" }, ...leaves]) {
		await owner.query("SET ROLE audit_owner");
		for (const sql of [`UPDATE ${leaf} SET batch_id = 0`, `DELETE FROM ${leaf}`, `TRUNCATE ${leaf}`]) {
			await expect(owner.query(sql)).rejects.toThrow(/audit records are immutable/);
		}
		await owner.query("RESET ROLE");
	}
	const rights = await ask(
		`SELECT r.rolname, c.oid::regclass::text, p.privilege
		 FROM pg_roles r, pg_class c, unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)
		 WHERE r.rolname IN ('audit_writer', 'audit_reader', 'audit_maintainer', 'audit_verifier')
		   AND c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p')
		   AND has_table_privilege(r.oid, c.oid, p.privilege)`,
	);
	expect(rights).toEqual([]);
});

test("the whole trail is proven", async () => {
	const written = Array.from({ length: 50 }, () => anEvent());
	await Promise.all((["acme", "globex"] as const).map((tenant) => clientOf(tenant).batchWrite({ events: written })));
	const verification = await checkTrail({ databaseUrl: env["DATABASE_URL"] ?? "", secret: testSecret() });
	expect(verification.events).toBeGreaterThanOrEqual(102);
	expect(verification.tenants).toBe(2);
});
