import { connect, headers, type JetStreamManager, type NatsConnection } from "nats";
import { Client } from "pg";
import { beforeAll, describe, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import { checkTrail } from "../support/check-trail.ts";
import { saidOf, startDoor, untilUp } from "../support/nats-client.ts";
import { connectAs, expectMayNotPublish, expectMayNotSubscribe, natsExample, urlOf } from "../support/nats-examples.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { openWritePath, type WritePath } from "../support/write-path.ts";

/** docs/examples/nats/users.conf, as it stands, on a real server: one account, and a user for each producer. */

let nats: Nats;
let database: TestDatabase;
let path: WritePath;
let admin: Client;
let door: NatsDoor;
/** The service's user: it may ask how the stream stands. */
let jsm: JetStreamManager;
const connections: NatsConnection[] = [];

beforeAll(async () => {
	[nats, database] = await Promise.all([startOwnNats({ config: natsExample("users") }), createTestDatabase()]);
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	door = startDoor({ url: urlOf("auditlog", nats), ingest: path.ingest });
	await untilUp(door);
	jsm = await (await as("auditlog")).jetstreamManager();
	return async () => {
		await Promise.all(connections.map((connection) => connection.close()));
		await door.close();
		await path.close();
		await checkTrail({ databaseUrl: database.url, secret: testSecret() });
		await admin.end();
		await Promise.all([nats.stop(), database.drop()]);
	};
});

async function as(user: string): Promise<NatsConnection> {
	const connection = await connectAs(user, nats);
	connections.push(connection);
	return connection;
}

const event = (action: string, tenant?: string) =>
	JSON.stringify({ action, actor: { id: "u" }, ...(tenant !== undefined && { tenant_id: tenant }) });

async function tenantsOf(action: string): Promise<string[]> {
	const { rows } = await admin.query("SELECT tenant_id FROM audit.events WHERE action = $1 ORDER BY 1", [action]);
	return rows.map(({ tenant_id }: { tenant_id: string }) => tenant_id);
}

async function letterAt(seq: number): Promise<{ reason: string; tenant_id: string | null }> {
	const sql = "SELECT reason, tenant_id FROM audit.dead_letters WHERE stream_seq = $1";
	return await waitFor(async () => (await admin.query(sql, [seq])).rows[0], { what: `the dead letter ${seq}` });
}

/** Whatever was published before is decided by now: the stream is stored in order. */
async function untilStored(action: string): Promise<string[]> {
	await waitFor(async () => (await tenantsOf(action)).length > 0, { what: action });
	return await tenantsOf(action);
}

describe("a producer of one tenant", () => {
	test("publishes its tenant's events, and they are that tenant's", async () => {
		const acme = await as("acme");
		await acme.jetstream().publish("audit.events.acme", event("own.event"));
		expect(await untilStored("own.event")).toEqual(["acme"]);
	});

	test("cannot write for another tenant: neither by the subject nor by the event", async () => {
		const acme = await as("acme");
		for (const subject of ["audit.events.globex", "audit.events", "audit.events.acme.x", "audit.events.*"]) {
			await expectMayNotPublish(acme, subject, event("forged.event", "globex"));
		}
		const { seq } = await acme.jetstream().publish("audit.events.acme", event("forged.event", "globex"));
		expect(await letterAt(seq)).toEqual({ reason: "TENANT_MISMATCH", tenant_id: "acme" });
		expect(await tenantsOf("forged.event")).toEqual([]);
	});

	test("hears from the server that a publish is refused: it is no timeout", async () => {
		const acme = await as("acme");
		const refused = acme.jetstream().publish("audit.events.globex", event("x"), { timeout: 60_000 });
		await expect(refused).rejects.toMatchObject({ code: "PERMISSIONS_VIOLATION" });
	});

	test("gets no answer at another inbox than its own", async () => {
		const acme = await connect({ servers: nats.url, user: "acme", pass: "change-me" });
		connections.push(acme);
		const refused = acme.jetstream().publish("audit.events.acme", event("x"), { timeout: 60_000 });
		await expect(refused).rejects.toThrow(/Permissions Violation for Subscription to "_INBOX\./);
	});
});

describe("a backend of several tenants", () => {
	test("publishes for those, and for no other", async () => {
		const billing = await as("billing");
		await billing.jetstream().publish("audit.events.acme", event("invoice.paid"));
		await billing.jetstream().publish("audit.events.globex", event("invoice.paid"));
		await waitFor(async () => (await tenantsOf("invoice.paid")).length === 2);
		expect(await tenantsOf("invoice.paid")).toEqual(["acme", "globex"]);
		for (const subject of ["audit.events.initech", "audit.events"]) await expectMayNotPublish(billing, subject);
	});
});

describe("a trusted producer", () => {
	test("publishes for every tenant, by subject and by event", async () => {
		const gateway = await as("gateway");
		await gateway.jetstream().publish("audit.events.initech", event("door.opened"));
		await gateway.jetstream().publish("audit.events", event("door.opened", "umbrella"));
		await waitFor(async () => (await tenantsOf("door.opened")).length === 2);
		expect(await tenantsOf("door.opened")).toEqual(["initech", "umbrella"]);
	});
});

const READING = [
	"STREAM.INFO.AUDIT",
	"STREAM.NAMES",
	"STREAM.LIST",
	"STREAM.MSG.GET.AUDIT",
	"DIRECT.GET.AUDIT",
	"DIRECT.GET.AUDIT.audit.events.globex",
	"STREAM.SNAPSHOT.AUDIT",
	"CONSUMER.CREATE.AUDIT",
	"CONSUMER.CREATE.AUDIT.mine",
	"CONSUMER.CREATE.AUDIT.mine.audit.events.globex",
	"CONSUMER.DURABLE.CREATE.AUDIT.mine",
	"CONSUMER.NAMES.AUDIT",
	"CONSUMER.LIST.AUDIT",
	"CONSUMER.INFO.AUDIT.audit-writer",
	"CONSUMER.MSG.NEXT.AUDIT.audit-writer",
];
const DESTROYING = [
	"STREAM.CREATE.MINE",
	"STREAM.UPDATE.AUDIT",
	"STREAM.PURGE.AUDIT",
	"STREAM.DELETE.AUDIT",
	"STREAM.MSG.DELETE.AUDIT",
	"STREAM.RESTORE.AUDIT",
	"STREAM.LEADER.STEPDOWN.AUDIT",
	"CONSUMER.DELETE.AUDIT.audit-writer",
	"CONSUMER.PAUSE.AUDIT.audit-writer",
	"CONSUMER.LEADER.STEPDOWN.AUDIT.audit-writer",
];

describe("nobody but the service", () => {
	test.each(["acme", "billing", "gateway"])("reads, purges or deletes: not %s", async (user) => {
		const producer = await as(user);
		for (const call of [...READING, ...DESTROYING]) await expectMayNotPublish(producer, `$JS.API.${call}`, '{"seq":1}');
		await expectMayNotPublish(producer, "$SYS.REQ.SERVER.PING.VARZ");
	});

	test.each(["acme", "billing", "gateway"])("listens to what others publish or are answered: not %s", async (user) => {
		const producer = await as(user);
		const others = ["_INBOX.>", "_INBOX_auditlog.>", "_INBOX_globex.>", "_INBOX*.>", "$JS.>", "$JS.ACK.>", "$SYS.>"];
		const events = [">", "audit.>", "audit.events.>", "audit.events.acme", "audit.events.globex"];
		for (const subject of [...events, "audit.dlq", "audit.chain", ...others]) {
			await expectMayNotSubscribe(producer, subject);
		}
		await expectMayNotSubscribe(producer, "audit.events.*", "audit-writer");
	});

	test.each(["acme", "billing", "gateway"])(
		"acknowledges, or says what only the service says: not %s",
		async (user) => {
			const producer = await as(user);
			const ack = "$JS.ACK.AUDIT.audit-writer.1.1.1.1700000000000000000.0";
			for (const subject of [ack, "audit.chain", "audit.dlq", "_INBOX_auditlog.x", "_INBOX_globex.x"]) {
				await expectMayNotPublish(producer, subject, "+ACK");
			}
		},
	);

	test("and the service itself neither reads around its consumer, nor purges, nor deletes, nor writes events", async () => {
		const service = await as("auditlog");
		const calls = [...READING, ...DESTROYING].filter(
			(call) => !/^STREAM\.(INFO|UPDATE)|^CONSUMER\.(INFO|MSG\.NEXT|DELETE)/.test(call),
		);
		for (const call of calls) await expectMayNotPublish(service, `$JS.API.${call}`, '{"seq":1}');
		for (const subject of ["audit.events", "audit.events.acme"]) await expectMayNotPublish(service, subject);
		for (const subject of [">", "audit.>", "_INBOX.>", "_INBOX_acme.>"]) await expectMayNotSubscribe(service, subject);
	});
});

/** JetStream answers a publish at the reply subject its publisher names, with rights of its own. */
describe("a producer that has JetStream answer elsewhere", () => {
	async function publishWithReply(reply: string): Promise<void> {
		const acme = await as("acme");
		acme.publish("audit.events.acme", event("with.reply"), { reply });
		await acme.flush();
	}

	test.each([...DESTROYING, "CONSUMER.MSG.NEXT.AUDIT.audit-writer"])("makes no request of it: %s", async (call) => {
		const before = (await jsm.streams.info("AUDIT")).state;
		for (let i = 0; i < 2; i += 1) await publishWithReply(`$JS.API.${call}`);
		await (await as("acme")).jetstream().publish("audit.events.acme", event("after.reply"));
		const { state } = await jsm.streams.info("AUDIT");
		expect(state).toMatchObject({ first_seq: 1, messages: before.messages + 3 });
		expect((await jsm.consumers.info("AUDIT", "audit-writer")).config.durable_name).toBe("audit-writer");
	});

	test("acknowledges nothing: the server turns such a message away", async () => {
		const acme = await as("acme");
		const said = (async () => {
			for await (const { permissionContext, data } of acme.status()) if (permissionContext || data) return data;
			return undefined;
		})();
		const before = (await jsm.streams.info("AUDIT")).state.last_seq;
		acme.publish("audit.events.acme", event("x"), { reply: "$JS.ACK.AUDIT.audit-writer.1.1.1.1700000000000000000.0" });
		expect(await said).toBe("PERMISSIONS_VIOLATION");
		expect((await jsm.streams.info("AUDIT")).state.last_seq).toBe(before);
	});

	test("writes nothing of its own for another tenant: what arrives there is a dead letter, not an event", async () => {
		const { last_seq } = (await jsm.streams.info("AUDIT")).state;
		await publishWithReply("audit.events.globex");
		const sql = "SELECT reason, body FROM audit.dead_letters WHERE tenant_id = 'globex' AND stream_seq > $1";
		const [letter] = await waitFor(async () => {
			const { rows } = await admin.query(sql, [last_seq]);
			return rows.length > 0 ? (rows as { reason: string; body: Buffer }[]) : undefined;
		});
		expect(letter?.reason).toBe("UNDECODABLE_JSON");
		expect(letter?.body.toString()).toMatch(/^\{"stream":"AUDIT", ?"seq":\d+\}$/);
	});
});

describe("what a producer writes into a header", () => {
	test.each([
		["Nats-Rollup", "all"],
		["Nats-Rollup", "sub"],
		["Nats-TTL", "1s"],
		["Nats-Expected-Stream", "AUDIT_DLQ"],
		["Nats-Expected-Last-Sequence", "1"],
		["Nats-Expected-Last-Subject-Sequence", "1"],
		["Nats-Expected-Last-Msg-Id", "x"],
		["Nats-Schedule", "@at 2000-01-01T00:00:00Z"],
		["Nats-Incr", "+1"],
		["Nats-Batch-Id", "b"],
	])("changes nothing but whether its own message is taken: %s: %s", async (name, value) => {
		const acme = await as("acme");
		const before = (await jsm.streams.info("AUDIT")).state;
		const header = headers();
		header.set(name, value);
		if (name === "Nats-Schedule") header.set("Nats-Schedule-Target", "audit.events.globex");
		const action = `header.${name.toLowerCase().replaceAll("-", ".")}.${value.length}`;
		const taken = await acme
			.jetstream()
			.publish("audit.events.acme", event(action), { headers: header })
			.then(
				() => true,
				() => false,
			);
		await acme.jetstream().publish("audit.events.acme", event(`${action}.after`));
		await untilStored(`${action}.after`);
		// Messages are stored in order: what was taken before is there by now, and under its own tenant.
		expect(await tenantsOf(action)).toEqual(taken ? ["acme"] : []);
		const { state } = await jsm.streams.info("AUDIT");
		expect(state).toMatchObject({ first_seq: 1, messages: before.messages + (taken ? 2 : 1) });
	});
});

describe("the service, with these permissions and no others", () => {
	test("has all it needs: streams, consumer, copies of dead letters, chain heads, and whether the server syncs", async () => {
		expect(door.status().sync).toBe(nats.syncAlways ? "always" : "periodic");
		await (await as("acme")).jetstream().publish("audit.events.acme", "{");
		const messagesOf = async (stream: string) => (await jsm.streams.info(stream)).state.messages;
		await waitFor(async () => (await messagesOf("AUDIT_DLQ")) > 0, { what: "the copies" });
		for (const head of path.heads) door.publishChainHead(head);
		await waitFor(async () => (await messagesOf("AUDIT_CHAIN")) > 0, { what: "the chain's head" });
		expect(door.degraded()).toEqual(saidOf(nats));
	});

	test("goes on after a restart where it was", async () => {
		await door.close();
		const acme = await as("acme");
		await acme.jetstream().publish("audit.events.acme", event("while.away"));
		door = startDoor({ url: urlOf("auditlog", nats), ingest: path.ingest });
		expect(await untilStored("while.away")).toEqual(["acme"]);
		expect(door.degraded()).toEqual(saidOf(nats));
	});
});
