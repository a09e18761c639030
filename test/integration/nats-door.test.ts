import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import { BatchWriteRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import { checkTrail } from "../support/check-trail.ts";
import {
	eventMessage,
	type NatsClient,
	openNatsClient,
	startDoor,
	untilDrained,
	untilUp,
} from "../support/nats-client.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { anEvent, openWritePath, type WritePath } from "../support/write-path.ts";

let nats: Nats;
let database: TestDatabase;
let path: WritePath;
let admin: Client;
let door: NatsDoor;
let client: NatsClient;

beforeEach(async () => {
	[nats, database] = await Promise.all([startOwnNats(), createTestDatabase()]);
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	door = startDoor({ url: nats.url, ingest: path.ingest, ackWaitMs: 2_000 });
	await untilUp(door);
	client = await openNatsClient(nats.url);
});

afterEach(async () => {
	await client.close();
	await door.close();
	await path.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await Promise.all([database.drop(), nats.stop()]);
});

const batchOf = (...events: Event[]) => create(BatchWriteRequestSchema, { events });
const BATCH = { "Audit-Type": "batch" };

async function stored(): Promise<{ tenant: string; action: string; facts: { recorded_by: unknown } }[]> {
	const { rows } = await admin.query(
		`SELECT tenant_id AS tenant, action, u_facts::jsonb AS facts FROM audit.events
		 WHERE kind = 1 ORDER BY tenant_id, action, occurred_at, id`,
	);
	return rows;
}

async function count(): Promise<number> {
	const { rows } = await admin.query("SELECT count(*)::int AS n FROM audit.events WHERE kind = 1");
	return rows[0].n;
}

async function deadLetters() {
	const { rows } = await admin.query("SELECT * FROM audit.dead_letters ORDER BY stream_seq, position");
	return rows;
}

describe("a drain", () => {
	test("stores each of many messages once, and acknowledges them all", async () => {
		const events = Array.from({ length: 6_000 }, (_, i) => anEvent({ tenantId: `t-${i % 7}`, action: `a.${i}` }));
		await client.publish(events.map(eventMessage));
		await untilDrained(client);
		expect(await count()).toBe(6_000);
		const { rows } = await admin.query("SELECT count(DISTINCT action)::int AS n FROM audit.events WHERE kind = 1");
		expect(rows[0].n).toBe(6_000);
		expect(await deadLetters()).toEqual([]);
		// Seven transactions made the tenants' logs; the events themselves went in flushes of thousands.
		expect(path.heads.length).toBeLessThan(7 + 40);
	});

	test("takes batches, protobuf and JSON, each event stored as if it had come alone", async () => {
		const events = Array.from({ length: 1_000 }, (_, i) => anEvent({ tenantId: "", action: `b.${i}` }));
		const json = toJsonString(BatchWriteRequestSchema, batchOf(anEvent({ action: "j.1" }), anEvent({ action: "j.2" })));
		await client.publish([
			{ subject: "audit.events.acme", data: toBinary(BatchWriteRequestSchema, batchOf(...events)), headers: BATCH },
			{ subject: "audit.events.acme", data: json, headers: BATCH },
			{ subject: "audit.events.acme", data: toJsonString(EventSchema, anEvent({ action: "j.3" })) },
			{ subject: "audit.events", data: toBinary(EventSchema, anEvent({ action: "p.1", tenantId: "globex" })) },
		]);
		await untilDrained(client);
		const rows = await stored();
		expect(rows).toHaveLength(1_004);
		expect(rows.filter(({ tenant }) => tenant === "globex").map(({ action }) => action)).toEqual(["p.1"]);
		expect(rows.map(({ action }) => action)).toEqual(expect.arrayContaining(["b.0", "b.999", "j.1", "j.2", "j.3"]));
		expect(new Set(rows.map(({ facts }) => JSON.stringify(facts.recorded_by)))).toEqual(new Set(['{"door":"nats"}']));
	});

	test("of a lone message is over well within a second", async () => {
		// On a machine that does other things as well one of them may wait for the machine; all of them would for the door.
		const took: number[] = [];
		for (let i = 1; i <= 10 && Math.min(...took) >= 800; i += 1) {
			const publishedAt = performance.now();
			await client.publish([eventMessage(anEvent())]);
			await waitFor(async () => (await count()) === i, { what: "the event", intervalMs: 5 });
			took.push(performance.now() - publishedAt);
		}
		expect(Math.min(...took)).toBeLessThan(800);
	});

	test("takes an event's time from JetStream if it brings none, to the microsecond", async () => {
		const [ack] = await client.publish([eventMessage(anEvent())]);
		await untilDrained(client);
		const { rows } = await admin.query(
			"SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') AS at FROM audit.events WHERE kind = 1",
		);
		const message = await client.jsm.streams.getMessage("AUDIT", { seq: ack?.seq ?? 0 });
		const digits = message.timestamp.replace(/Z$/, "").padEnd(26, "0").slice(0, 26);
		expect(rows).toEqual([{ at: digits }]);
	});
});

describe("what cannot become an event", () => {
	test("is dead-lettered alone, with its reason and bytes; the good around it is stored", async () => {
		const good = Array.from({ length: 50 }, (_, i) => eventMessage(anEvent({ action: `ok.${i}` })));
		const bad = [
			{ subject: "audit.events.acme", data: Uint8Array.of(0xff, 0xff, 0xff) },
			{ subject: "audit.events.acme", data: '{"action":"x.y","action":"z"}' },
			eventMessage(anEvent({ action: "Not An Action" })),
			{
				subject: "audit.events.acme",
				data: toBinary(
					BatchWriteRequestSchema,
					batchOf(anEvent({ action: "ok.a" }), anEvent({ action: "" }), anEvent()),
				),
				headers: BATCH,
			},
		];
		await client.publish([...good.slice(0, 25), ...bad, ...good.slice(25)]);
		await untilDrained(client);
		expect(await count()).toBe(52);
		const letters = await deadLetters();
		expect(letters.map(({ stream_seq, position, reason }) => [stream_seq, position, reason])).toEqual([
			["26", 0, "UNDECODABLE_PROTOBUF"],
			["27", 0, "UNDECODABLE_JSON"],
			["28", 0, "INVALID_EVENT"],
			["29", 1, "INVALID_EVENT"],
		]);
		expect(letters[0].body).toEqual(Buffer.of(0xff, 0xff, 0xff));
		expect(letters[3].body).toEqual(Buffer.from(toBinary(EventSchema, anEvent({ action: "" }))));
		expect(letters[3].headers).toEqual({ "Audit-Type": ["batch"] });
	});

	test("is copied to audit.dlq after it is stored", async () => {
		await client.publish([{ subject: "audit.events.acme", data: "{}", headers: { "X-Mine": "1" } }]);
		await waitFor(async () => (await client.messages("AUDIT_DLQ")).length > 0, { what: "the copy" });
		const [copy] = await client.messages("AUDIT_DLQ");
		expect(copy?.string()).toBe("{}");
		expect(copy?.header.get("Audit-Reason")).toBe("INVALID_EVENT");
		expect(copy?.header.get("Audit-Tenant")).toBe("acme");
		expect(copy?.header.get("Audit-Subject")).toBe("audit.events.acme");
		expect(copy?.header.get("Audit-Stream-Seq")).toBe("1");
		expect(await deadLetters()).toHaveLength(1);
	});

	test("is an event of another tenant than its subject's", async () => {
		const foreign = toBinary(EventSchema, anEvent({ tenantId: "globex" }));
		await client.publish([
			{ subject: "audit.events.acme", data: foreign },
			{
				subject: "audit.events.acme",
				data: toBinary(BatchWriteRequestSchema, batchOf(anEvent(), anEvent({ tenantId: "globex" }))),
				headers: BATCH,
			},
			{ subject: "audit.events.a/b", data: foreign },
		]);
		await untilDrained(client);
		expect((await stored()).map(({ tenant }) => tenant)).toEqual(["acme"]);
		expect((await deadLetters()).map(({ reason, tenant_id }) => [reason, tenant_id])).toEqual([
			["TENANT_MISMATCH", "acme"],
			["TENANT_MISMATCH", "acme"],
			["UNKNOWN_SUBJECT", null],
		]);
	});

	test("never holds up the rest: text PostgreSQL cannot keep, odd headers, a status line, a body of full size", async () => {
		const raw = (head: string, body: string) => {
			const [h, all] = [Buffer.byteLength(head), Buffer.byteLength(head) + Buffer.byteLength(body)];
			return `HPUB audit.events.acme ${h} ${all}\r\n${head}${body}\r\n`;
		};
		const { connect } = await import("node:net");
		const socket = connect(nats.port, "127.0.0.1");
		socket.resume();
		socket.write('CONNECT {"headers":true,"verbose":false}\r\n');
		socket.write(raw("NATS/1.0\r\nno spaces: allowed\r\n\r\n", "{}"));
		socket.write(raw("NATS/1.0 409 Consumer Deleted\r\n\r\n", ""));
		socket.write(raw("NATS/1.0\r\nX-Nul: a\0b\r\n\r\n", "{}"));
		const nul = '{"action":"a.b","actor":{"id":"u"},"metadata":{"\\u0000":{"\\ud800":1}},"nonsense\\u0000\\ud800":1}';
		socket.write(raw("NATS/1.0\r\n\r\n", nul));
		socket.write(raw("NATS/1.0\r\n\r\n", nul.replace(',"nonsense\\u0000\\ud800":1', "")));
		await waitFor(async () => (await client.jsm.streams.info("AUDIT")).state.messages === 5);
		socket.destroy();
		const full = new Uint8Array(1024 * 1024 - 1024).fill(0xff);
		await client.publish([{ subject: "audit.events.acme", data: full }, eventMessage(anEvent())]);
		await untilDrained(client);
		expect(await count()).toBe(1);
		expect((await deadLetters()).map(({ reason }) => reason)).toEqual([
			"UNDECODABLE_HEADERS",
			"INVALID_EVENT",
			"INVALID_EVENT",
			"UNDECODABLE_JSON",
			"INVALID_EVENT",
			"UNDECODABLE_PROTOBUF",
		]);
		await waitFor(async () => (await client.messages("AUDIT_DLQ")).length === 6, { what: "the copies" });
	});
});

test("the newest head of the manifest chain is carried out to AUDIT_CHAIN", async () => {
	await client.publish([eventMessage(anEvent()), eventMessage(anEvent({ tenantId: "globex" }))]);
	await untilDrained(client);
	for (const head of path.heads) door.publishChainHead(head);
	const newest = path.heads.at(-1);
	await waitFor(
		async () => {
			const heads = (await client.messages("AUDIT_CHAIN")).map((message) => message.json());
			expect(heads.at(-1)).toEqual({
				batch_no: newest?.batchNo.toString(),
				batch_id: newest?.batchId.toString(),
				chain: Buffer.from(newest?.chain ?? "").toString("hex"),
				events: newest?.events,
			});
			return true;
		},
		{ what: "the head" },
	);
});
