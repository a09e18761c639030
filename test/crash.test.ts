import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { connect as connectNats, type JetStreamManager, type NatsConnection } from "nats";
import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Nats } from "../src/dev/nats.ts";
import type { Postgres } from "../src/dev/postgres.ts";
import { migrate } from "../src/storage/migrate.ts";
import { checkTrail } from "./support/check-trail.ts";
import { type PostgresProxy, startPostgresProxy } from "./support/postgres-proxy.ts";
import { createKey } from "./support/rpc-service.ts";
import { type ServiceProcess, startService } from "./support/service-process.ts";
import { ownDirectory, startOwnNats, startOwnPostgres, testSecret, waitFor } from "./support/services.ts";

/**
 * The whole service as a process of its own, with a PostgreSQL and a nats-server that are stopped, killed and started
 * again under it. After each test the whole trail is verified.
 */

let postgres: Postgres;
let nats: Nats;
let admin: Client;
let proxy: PostgresProxy;
let service: ServiceProcess;
let key: string;
const dirs = { postgres: "", nats: "" };
const secret = testSecret();

beforeEach(async () => {
	dirs.postgres = ownDirectory("postgres");
	dirs.nats = ownDirectory("nats");
	postgres = await startOwnPostgres({ dataDir: dirs.postgres });
	nats = await startOwnNats({ dataDir: dirs.nats });
	await migrate({ databaseUrl: postgres.url, secret });
	proxy = await startPostgresProxy(postgres.url);
	await connectAdmin();
	key = await createKey(postgres.url, "operator", "all");
	await start();
});

afterEach(async () => {
	await service.stop();
	await proxy.close();
	await checkTrail({ databaseUrl: postgres.url, secret });
	await admin.end();
	await nats.stop();
	await postgres.stop();
});

async function connectAdmin(): Promise<void> {
	admin = new Client({ connectionString: postgres.url });
	admin.on("error", () => {});
	await admin.connect();
}

async function start(): Promise<void> {
	service = await startService({ DATABASE_URL: proxy.url, NATS_URL: nats.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	await consumerInfo();
}

/** Writes through REST. @returns the HTTP status */
async function write(id: string, body: Record<string, unknown> = {}): Promise<number> {
	const event = {
		tenant_id: "acme",
		id,
		occurred_at: new Date().toISOString(),
		action: "user.login",
		actor: { id: "u" },
		...body,
	};
	const response = await fetch(`${service.httpUrl}/v1/audit/events`, {
		method: "POST",
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
		body: JSON.stringify(event),
	});
	return response.status;
}

async function withNats<T>(use: (nc: NatsConnection, jsm: JetStreamManager) => Promise<T>): Promise<T> {
	const nc = await connectNats({ servers: nats.url });
	try {
		return await use(nc, await nc.jetstreamManager());
	} finally {
		await nc.close();
	}
}

/** Waits until the door has made the stream, and tells how far it got. */
async function consumerInfo() {
	return waitFor(() => withNats((_, jsm) => jsm.consumers.info("AUDIT", "audit-writer")), { what: "the NATS door" });
}

async function publish(count: number, body: (i: number) => unknown): Promise<void> {
	await withNats(async (nc) => {
		const js = nc.jetstream();
		for (let i = 0; i < count; i += 500) {
			const window = Array.from({ length: Math.min(500, count - i) }, (_, n) =>
				js.publish("audit.events.acme", JSON.stringify(body(i + n))),
			);
			await Promise.all(window);
		}
	});
}

/** Enough messages that a drain is interrupted in the middle. */
const DRAIN = 40_000;
const numbered = (i: number) => ({ action: "n.umbered", actor: { id: `n-${i}` } });

/** How often each numbered event is stored: what must be once each. */
async function storedNumbers(): Promise<{ events: number; distinct: number }> {
	const { rows } = await admin.query(
		"SELECT count(*)::int AS events, count(DISTINCT actor_id)::int AS distinct FROM audit.events WHERE action = 'n.umbered'",
	);
	return rows[0];
}

async function untilStored(count: number): Promise<void> {
	await waitFor(async () => (await storedNumbers()).distinct >= count, {
		deadlineMs: 90_000,
		what: `${count} stored events`,
	});
	expect(await storedNumbers()).toEqual({ events: count, distinct: count });
}

/** PostgreSQL's server processes: each is in a session of its own, so a signal to the group reaches none. */
function postgresProcesses(): number[] {
	const children = readdirSync("/proc")
		.filter((name) => /^\d+$/.test(name))
		.filter((pid) => {
			try {
				return Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ")[1]) === postgres.pid;
			} catch {
				return false;
			}
		});
	return [postgres.pid, ...children.map(Number)];
}

test("while PostgreSQL stands still no write is answered OK and nothing is acknowledged; then each is stored once", async () => {
	expect(await write(randomUUID())).toBe(200);
	const ids = Array.from({ length: 5 }, () => randomUUID());
	const time = new Date().toISOString();
	const floor = (await consumerInfo()).ack_floor.stream_seq;
	const frozen = postgresProcesses();
	for (const pid of frozen) process.kill(pid, "SIGSTOP");
	try {
		await publish(20, numbered);
		const statuses = await Promise.all(ids.map((id) => write(id, { occurred_at: time })));
		expect(statuses.filter((status) => status < 500)).toEqual([]);
		expect((await consumerInfo()).ack_floor.stream_seq).toBe(floor);
	} finally {
		for (const pid of frozen) process.kill(pid, "SIGCONT");
	}
	for (const id of ids)
		await waitFor(async () => (await write(id, { occurred_at: time })) === 200, { what: "a write" });
	await untilStored(20);
	const { rows } = await admin.query("SELECT count(*)::int AS n FROM audit.events WHERE id = ANY($1)", [ids]);
	expect(rows[0].n).toBe(5);
}, 240_000);

test("killed between COMMIT and acknowledgement, the service finds the redelivered messages stored, once", async () => {
	// The tenant is there already: the next COMMIT is that of messages.
	expect(await write(randomUUID())).toBe(200);
	const before = (await consumerInfo()).ack_floor.stream_seq;
	proxy.next("hold the reply");
	await publish(50, numbered);
	await waitFor(() => proxy.held > 0, { what: "a commit" });
	service.kill("SIGKILL");
	await service.exited();
	expect((await storedNumbers()).events).toBeGreaterThan(0);
	expect((await consumerInfo()).ack_floor.stream_seq).toBe(before);
	await start();
	await untilStored(50);
	await waitFor(async () => (await consumerInfo()).num_ack_pending === 0, {
		deadlineMs: 90_000,
		what: "all acknowledgements",
	});
}, 240_000);

test("a nats-server killed during a drain and started again: each message is stored once", async () => {
	const { port } = nats;
	await service.stop();
	await publish(DRAIN, numbered);
	await start();
	await waitFor(async () => (await storedNumbers()).events > 0, { what: "the drain" });
	process.kill(nats.pid, "SIGKILL");
	await nats.exited;
	expect((await storedNumbers()).events).toBeLessThan(DRAIN);
	nats = await startOwnNats({ dataDir: dirs.nats, port });
	await untilStored(DRAIN);
}, 240_000);

test("a PostgreSQL restarted during a drain: each message is stored once", async () => {
	const { port } = postgres;
	await service.stop();
	await publish(DRAIN, numbered);
	await start();
	await waitFor(async () => (await storedNumbers()).events > 0, { what: "the drain" });
	await postgres.stop();
	postgres = await startOwnPostgres({ dataDir: dirs.postgres, port });
	await connectAdmin();
	expect((await storedNumbers()).events).toBeLessThan(DRAIN);
	await untilStored(DRAIN);
	expect(await write(randomUUID())).toBe(200);
}, 240_000);

test("a connection that breaks while a search waits for an answer fails that search and nothing else", async () => {
	expect(await write(randomUUID())).toBe(200);
	const search = () =>
		fetch(`${service.httpUrl}/v1/audit/events?tenant_id=acme`, { headers: { authorization: `Bearer ${key}` } });
	expect((await search()).status).toBe(200);
	await admin.query("BEGIN; LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE");
	const waiting = search();
	await waitFor(async () => {
		const { rows } = await admin.query("SELECT FROM pg_locks WHERE NOT granted");
		return rows.length > 0;
	});
	proxy.cut();
	expect((await waiting).status).toBe(503);
	await admin.query("COMMIT");
	expect((await search()).status).toBe(200);
}, 240_000);

test("without NATS the synchronous door serves, and the NATS door comes back by itself", async () => {
	const { port } = nats;
	process.kill(nats.pid, "SIGKILL");
	await nats.exited;
	expect(await write(randomUUID())).toBe(200);
	const ready = await waitFor(async () => {
		const response = await fetch(`${service.httpUrl}/readyz`);
		return /nats: connecting/.test(await response.text()) ? response : undefined;
	});
	expect(ready.status).toBe(200);
	nats = await startOwnNats({ dataDir: dirs.nats, port });
	await publish(10, numbered);
	await untilStored(10);
}, 240_000);

test("a poison message among good ones is dead-lettered alone, with its reason", async () => {
	await publish(100, (i) => (i === 41 ? { action: "NOT AN ACTION", actor: { id: "n-41" } } : numbered(i)));
	await untilStored(99);
	const letters = await waitFor(async () => {
		const { rows } = await admin.query(
			"SELECT reason, violations, convert_from(body, 'UTF8') AS body FROM audit.dead_letters",
		);
		return rows.length > 0 && rows;
	});
	expect(letters).toEqual([
		{
			reason: "INVALID_EVENT",
			violations: [expect.objectContaining({ field: "action" })],
			body: JSON.stringify({ action: "NOT AN ACTION", actor: { id: "n-41" } }),
		},
	]);
}, 240_000);
