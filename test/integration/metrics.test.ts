import { clone, create, toBinary } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type AuditClient, createAuditClient } from "../../src/client/index.ts";
import { type Config, loadConfig } from "../../src/config.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { BatchWriteMode, BatchWriteRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { createLogger } from "../../src/logger.ts";
import { type RunningServer, startServer } from "../../src/server.ts";
import { METRICS } from "../../src/telemetry.ts";
import { checkTrail } from "../support/check-trail.ts";
import { eventMessage, type NatsClient, openNatsClient, untilDrained } from "../support/nats-client.ts";
import { createKey, startDoors } from "../support/rpc-service.ts";
import { moved, scrape } from "../support/scrape.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { anEvent } from "../support/write-path.ts";

let database: TestDatabase;
let nats: Nats;
let server: RunningServer;
let admin: Client;
let client: AuditClient;
let producer: NatsClient;
let key: string;
let before: Map<string, number>;
let config: Config;

beforeAll(async () => {
	[database, nats] = await Promise.all([createTestDatabase(), startOwnNats()]);
	key = await createKey(database.url, "operator", "all");
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	config = loadConfig({
		DATABASE_URL: database.url,
		NATS_URL: nats.url,
		AUDIT_SECRET: testSecret(),
		AUDIT_AUTO_CREATE_TENANTS: "true",
		HTTP_PORT: "0",
		GRPC_PORT: "0",
		// Idle connections are the tests' own, and are not waited for.
		AUDIT_DRAIN_NOTICE_MS: "0",
		AUDIT_DRAIN_MS: "500",
	});
	server = await startServer(config, createLogger("silent"));
	client = createAuditClient({ url: server.grpcUrl, key, attempts: 1 });
	await waitFor(() => server.natsDoor?.status().state === "up", { what: "the NATS door" });
	producer = await openNatsClient(nats.url);
	// The tenant's own first event is not to be counted with what the tests write.
	await client.writeEvent({ event: anEvent() });
});
beforeEach(async () => {
	before = await scrape(server.httpUrl);
});
afterAll(async () => {
	await producer.close();
	await server.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await Promise.all([nats.stop(), database.drop()]);
});

const EVENTS = /^audit_(events|dead_letters)_/;
const since = async (prefix = EVENTS) => moved(before, await scrape(server.httpUrl), prefix);

/** Events with ids and times of their own: sent again they are the same. */
function retryable(count: number): Event[] {
	const occurredAt = { seconds: BigInt(Math.floor(Date.now() / 1000)), nanos: 0 };
	return Array.from({ length: count }, () => anEvent({ id: crypto.randomUUID(), occurredAt }));
}
/** Another event under the same key. */
function changed(event: Event | undefined): Event {
	return Object.assign(clone(EventSchema, event ?? anEvent()), { action: "something.else" });
}
const rest = (path: string, body: unknown) =>
	fetch(`${server.httpUrl}/v1/audit/${path}`, {
		method: "POST",
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
		body: typeof body === "string" ? body : JSON.stringify(body),
	});
const aRestEvent = (init: object = {}) => ({ tenant_id: "acme", action: "user.login", actor: { id: "u" }, ...init });

describe("the counters move by exactly what was written", () => {
	test("with WriteEvent", async () => {
		const events = retryable(5);
		for (const event of events) await client.writeEvent({ event });
		for (const event of events.slice(0, 2)) expect((await client.writeEvent({ event })).duplicate).toBe(true);
		const refused = [anEvent({ action: "Not An Action" }), anEvent({ action: "" }), changed(events[0])];
		for (const event of refused) await expect(client.writeEvent({ event })).rejects.toThrow();
		await expect(client.writeEvent({})).rejects.toThrow();
		expect(await since()).toEqual({
			'audit_events_accepted_total{door="rpc"}': 7,
			'audit_events_stored_total{door="rpc"}': 5,
			'audit_events_duplicate_total{door="rpc"}': 2,
			'audit_events_rejected_total{door="rpc",reason="INVALID_EVENT"}': 3,
			'audit_events_rejected_total{door="rpc",reason="ID_REUSED"}': 1,
		});
	});

	test("with BatchWrite, partial and atomic", async () => {
		const events = retryable(6);
		const mixed = [...events, ...events.slice(0, 2), anEvent({ action: "" }), anEvent({ actor: { id: "" } })];
		await client.batchWrite({ events: mixed });
		await client.batchWrite({ events: retryable(4), mode: BatchWriteMode.ATOMIC });
		// One bad event keeps all of them out, whether admission finds it or the database.
		const spoilt = [...retryable(3), anEvent({ action: "" })];
		await expect(client.batchWrite({ events: spoilt, mode: BatchWriteMode.ATOMIC })).rejects.toThrow();
		const reused = [...retryable(2), changed(events[0])];
		await expect(client.batchWrite({ events: reused, mode: BatchWriteMode.ATOMIC })).rejects.toThrow();
		expect(await since()).toEqual({
			'audit_events_accepted_total{door="rpc"}': 12,
			'audit_events_stored_total{door="rpc"}': 10,
			'audit_events_duplicate_total{door="rpc"}': 2,
			'audit_events_rejected_total{door="rpc",reason="INVALID_EVENT"}': 6,
			'audit_events_rejected_total{door="rpc",reason="ID_REUSED"}': 3,
		});
	});

	test("over REST", async () => {
		const event = aRestEvent({ id: crypto.randomUUID(), occurred_at: new Date().toISOString() });
		expect((await rest("events", event)).status).toBe(200);
		expect((await rest("events", event)).status).toBe(200);
		expect((await rest("events", aRestEvent({ action: "NO" }))).status).toBe(400);
		expect((await rest("events", '{"action":')).status).toBe(400);
		expect((await rest("events", aRestEvent({ unheard_of: 1 }))).status).toBe(400);
		const batch = { events: [aRestEvent(), aRestEvent(), aRestEvent({ action: "" })] };
		expect((await rest("events:batch", batch)).status).toBe(200);
		expect(await since()).toEqual({
			'audit_events_accepted_total{door="rpc"}': 4,
			'audit_events_stored_total{door="rpc"}': 3,
			'audit_events_duplicate_total{door="rpc"}': 1,
			'audit_events_rejected_total{door="rpc",reason="INVALID_EVENT"}': 2,
			'audit_events_rejected_total{door="rpc",reason="MALFORMED_REQUEST"}': 2,
		});
	});

	test("over NATS, dead letters and redeliveries included", async () => {
		const batch = toBinary(BatchWriteRequestSchema, create(BatchWriteRequestSchema, { events: retryable(5) }));
		const foreign = { ...eventMessage(anEvent({ tenantId: "globex" })), subject: "audit.events.acme" };
		const messages = [
			...Array.from({ length: 20 }, () => eventMessage(anEvent())),
			{ subject: "audit.events.acme", data: batch, headers: { "Audit-Type": "batch" } },
			{ subject: "audit.events.acme", data: Uint8Array.of(0xff) },
			{ subject: "audit.events.acme", data: "{}" },
			foreign,
		];
		await producer.publish(messages);
		await untilDrained(producer);
		const written = {
			'audit_events_accepted_total{door="nats"}': 25,
			'audit_events_stored_total{door="nats"}': 25,
			'audit_events_rejected_total{door="nats",reason="INVALID_EVENT"}': 1,
			'audit_events_rejected_total{door="nats",reason="TENANT_MISMATCH"}': 1,
			'audit_events_rejected_total{door="nats",reason="UNDECODABLE_PROTOBUF"}': 1,
			'audit_dead_letters_total{reason="INVALID_EVENT"}': 1,
			'audit_dead_letters_total{reason="TENANT_MISMATCH"}': 1,
			'audit_dead_letters_total{reason="UNDECODABLE_PROTOBUF"}': 1,
		};
		expect(await since()).toEqual(written);

		// A consumer of the same name begins at the first message: all are delivered again.
		await producer.jsm.consumers.delete("AUDIT", "audit-writer");
		const duplicates = 'audit_events_duplicate_total{door="nats"}';
		await waitFor(async () => (await since())[duplicates], { what: "a redelivery" });
		await waitFor(async () => (await producer.progress()).unacknowledged === 0, { what: "acknowledgements" });
		expect(await since()).toEqual({ ...written, [duplicates]: 25, 'audit_events_accepted_total{door="nats"}': 50 });
	});

	test("a flush that fails stores nothing; tried again it does", async () => {
		await admin.query("REVOKE INSERT ON audit.events FROM audit_writer");
		const events = retryable(3);
		for (const event of events) await expect(client.writeEvent({ event })).rejects.toThrow();
		await producer.publish(events.map(() => eventMessage(anEvent())));
		const failed = 'audit_flush_seconds_count{door="nats",result="failed"}';
		await waitFor(async () => (await since(/flush/))[failed], { what: "a failed flush" });
		expect((await since(/flush/))['audit_flush_seconds_count{door="rpc",result="failed"}']).toBe(3);
		expect(await since()).toEqual({});
		// What waits can be seen meanwhile.
		const now = await scrape(server.httpUrl);
		expect(now.get("audit_nats_held_messages")).toBe(3);
		expect(now.get("audit_nats_oldest_seconds")).toBeGreaterThan(0);
		const ackPending = async () => (await scrape(server.httpUrl)).get("audit_nats_ack_pending") === 3;
		await waitFor(ackPending, { what: "a look at the consumer" });

		await admin.query("GRANT INSERT ON audit.events TO audit_writer");
		for (const event of events) await client.writeEvent({ event });
		await untilDrained(producer);
		expect(await since()).toEqual({
			'audit_events_accepted_total{door="rpc"}': 3,
			'audit_events_stored_total{door="rpc"}': 3,
			'audit_events_accepted_total{door="nats"}': 3,
			'audit_events_stored_total{door="nats"}': 3,
		});
		expect((await scrape(server.httpUrl)).get("audit_nats_oldest_seconds")).toBe(0);
	});

	test("and what waits for its turn is seen while it waits", async () => {
		const blocker = new Client({ connectionString: database.url });
		await blocker.connect();
		await blocker.query("BEGIN");
		await blocker.query("LOCK TABLE audit.events IN SHARE MODE");
		const [first, ...others] = retryable(4);
		const calls = [client.writeEvent({ event: first ?? anEvent() })];
		// While the first is being flushed the others wait.
		const isBlocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
		await waitFor(async () => (await admin.query(isBlocked)).rowCount, { what: "a blocked flush" });
		for (const event of others) calls.push(client.writeEvent({ event }));
		const now = await waitFor(async () => {
			const seen = await scrape(server.httpUrl);
			return seen.get("audit_queue_events") === 3 ? seen : undefined;
		});
		expect(now.get("audit_queue_bytes")).toBeGreaterThan(100);
		expect(now.get("audit_queue_oldest_seconds")).toBeGreaterThan(0);
		await blocker.query("COMMIT");
		await blocker.end();
		await Promise.all(calls);
		expect((await scrape(server.httpUrl)).get("audit_queue_events")).toBe(0);
		const batches = await since(/^audit_batch_events_(sum|count)/);
		expect(batches).toEqual({ audit_batch_events_sum: 4, audit_batch_events_count: 2 });
	});

	test("and all of them together are what the database holds", async () => {
		await client.writeEvent({ event: anEvent({ tenantId: "another-tenant" }) });
		const now = await scrape(server.httpUrl);
		const stored = ["rpc", "nats", "service"].map((door) => now.get(`audit_events_stored_total{door="${door}"}`) ?? 0);
		const { rows } = await admin.query(
			"SELECT (SELECT count(*)::int FROM audit.events) AS events, (SELECT count(*)::int FROM audit.manifests) AS batches",
		);
		expect(stored.reduce((sum, count) => sum + count)).toBe(rows[0].events);
		expect(now.get("audit_batch_events_sum")).toBe(rows[0].events);
		expect(now.get("audit_batch_events_count")).toBe(rows[0].batches);
		expect(stored[2]).toBe(2);
	});
});

describe("what /metrics says", () => {
	test("is every metric of the table, and nothing of a tenant, a key or a name somebody made up", async () => {
		await fetch(`${server.httpUrl}/v1/audit/made-up-path?made=up`);
		await fetch(`${server.httpUrl}/audit.v1.MadeUp/Call`, { method: "MADEUP" });
		const text = await (await fetch(`${server.httpUrl}/metrics`)).text();
		for (const [name, { type, help }] of Object.entries(METRICS)) {
			expect(text).toContain(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`);
		}
		expect(text).toContain("process_cpu_seconds_total");
		expect(text).not.toMatch(/acme|globex|another-tenant|made-?up/i);
		expect(text).not.toContain(key.split("_")[1]);
		// No sample has a label, or a known label a value, that the table does not name.
		for (const [, name = "", labels = ""] of text.matchAll(/^(audit_\w+?)(?:_bucket|_sum|_count)?\{(.*)\} /gm)) {
			const known: Record<string, readonly string[] | "word"> = METRICS[name as keyof typeof METRICS].labels;
			for (const [, label = "", given] of labels.matchAll(/(\w+)="([^"]*)"/g)) {
				if (label === "le") continue;
				expect(known).toHaveProperty(label);
				if (known[label] !== "word") expect(known[label]).toContain(given);
			}
		}
	});

	test("counts each call once, by name and by how it ended", async () => {
		await client.query({ tenantId: "acme" });
		await expect(client.query({ tenantId: "acme", pageSize: -1 })).rejects.toThrow();
		await fetch(`${server.httpUrl}/v1/audit/events?tenant_id=acme`, { headers: { authorization: `Bearer ${key}` } });
		await fetch(`${server.httpUrl}/v1/audit/events?tenant_id=acme`);
		await fetch(`${server.httpUrl}/nowhere`);
		expect(await since(/^audit_call_seconds_count\{call="(?!\/metrics)/)).toEqual({
			'audit_call_seconds_count{call="Query",code="ok"}': 1,
			'audit_call_seconds_count{call="Query",code="invalid_argument"}': 1,
			'audit_call_seconds_count{call="REST query",code="ok"}': 1,
			'audit_call_seconds_count{call="REST query",code="unauthenticated"}': 1,
			'audit_call_seconds_count{call="none",code="not_found"}': 1,
		});
	});

	test("holds the state of things", async () => {
		const now = await scrape(server.httpUrl);
		expect(now.get("audit_partitions_ahead")).toBe(1);
		expect(now.get("audit_nats_connected")).toBe(1);
		expect(now.get("audit_queue_events")).toBe(0);
		expect(now.get('audit_connections{port="http"}')).toBeGreaterThanOrEqual(1);
		const info = [...now.keys()].find((name) => name.startsWith("audit_build_info"));
		expect(info).toMatch(/version="\d+\.\d+\.\d+"/);
		expect(info).toContain(`node="${process.versions.node}"`);
		expect(info).toMatch(/postgres="\d+(\.\d+)*"/);
		expect(info).toMatch(/nats="2\.\d+\.\d+"/);
	});

	test("is Prometheus text, or OpenMetrics for who asks, in any order", async () => {
		const ask = async (accept: string) => {
			const response = await fetch(`${server.httpUrl}/metrics`, { headers: { accept } });
			return { type: response.headers.get("content-type"), text: await response.text() };
		};
		for (let i = 0; i < 2; i += 1) {
			const open = await ask("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
			expect(open.type).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
			expect(open.text).toMatch(/^# TYPE audit_events_stored counter$/m);
			expect(open.text).toMatch(/^audit_events_stored_total\{door="rpc"\} \d+$/m);
			expect(open.text).not.toMatch(/\n\n|_total_total/);
			expect(open.text.endsWith("\n# EOF\n")).toBe(true);
			const plain = await ask("text/plain;version=0.0.4");
			expect(plain.type).toBe("text/plain; version=0.0.4; charset=utf-8");
			expect(plain.text).toMatch(/^# TYPE audit_events_stored_total counter$/m);
			expect(plain.text).not.toContain("# EOF");
		}
	});

	test("is on 8080 alone, for GET and HEAD", async () => {
		expect((await fetch(`${server.httpUrl}/metrics`, { method: "HEAD" })).status).toBe(200);
		expect((await fetch(`${server.httpUrl}/metrics`, { method: "POST" })).status).toBe(405);
	});
});

test("messages that wait in the stream are seen, also by a service that was away", async () => {
	await server.close();
	await producer.publish(Array.from({ length: 4 }, () => eventMessage(anEvent())));
	server = await startServer(config, createLogger("silent"));
	const pending = async () => (await scrape(server.httpUrl)).get("audit_nats_consumer_pending");
	await waitFor(async () => (await pending()) === 4, { what: "the messages" });
	await untilDrained(producer);
	await waitFor(async () => (await pending()) === 0, { what: "another look" });
});

test("what calls wait with can be seen while they wait: bytes of requests in flight", async () => {
	let answer = () => {};
	const held = new Promise<never>((_, reject) => {
		answer = () => reject(new Error("enough"));
	});
	const doors = await startDoors({ ingest: { accept: () => held } });
	const writer = createAuditClient({ url: doors.grpcUrl, key: doors.createKey("writer"), attempts: 1 });
	const call = writer.writeEvent({ event: anEvent({ description: "x".repeat(1_000) }) }).catch(() => "over");
	await waitFor(async () => ((await scrape(doors.httpUrl)).get("audit_in_flight_bytes") ?? 0) > 1_000);
	answer();
	expect(await call).toBe("over");
	await waitFor(async () => (await scrape(doors.httpUrl)).get("audit_in_flight_bytes") === 0);
	await doors.close();
});
