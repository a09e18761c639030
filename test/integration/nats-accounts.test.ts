import type { JetStreamManager, NatsConnection } from "nats";
import { Client } from "pg";
import { beforeAll, describe, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import { saidOf, startDoor, untilUp } from "../support/nats-client.ts";
import { connectAs, natsExample, urlOf } from "../support/nats-examples.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { openWritePath, type WritePath } from "../support/write-path.ts";

/** docs/examples/nats/accounts.conf, as it stands, on a real server: an account for each tenant. */

let nats: Nats;
let database: TestDatabase;
let path: WritePath;
let admin: Client;
let door: NatsDoor;
/** The service's user, which may do everything in its account. */
let jsm: JetStreamManager;
let service: NatsConnection;
let acme: NatsConnection;
let globex: NatsConnection;

beforeAll(async () => {
	[nats, database] = await Promise.all([startOwnNats({ config: natsExample("accounts") }), createTestDatabase()]);
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	door = startDoor({ url: urlOf("auditlog", nats), ingest: path.ingest });
	await untilUp(door);
	service = await connectAs("auditlog", nats);
	jsm = await service.jetstreamManager();
	[acme, globex] = await Promise.all([connectAs("acme", nats), connectAs("globex", nats)]);
	return async () => {
		await Promise.all([service.close(), acme.close(), globex.close()]);
		await door.close();
		await path.close();
		await admin.end();
		await Promise.all([nats.stop(), database.drop()]);
	};
});

const event = (action: string, tenant?: string) =>
	JSON.stringify({ action, actor: { id: "u" }, ...(tenant !== undefined && { tenant_id: tenant }) });

async function untilStored(action: string): Promise<string[]> {
	const sql = "SELECT tenant_id FROM audit.events WHERE action = $1 ORDER BY 1";
	const rows = await waitFor(async () => {
		const found = (await admin.query(sql, [action])).rows as { tenant_id: string }[];
		return found.length > 0 ? found : undefined;
	});
	return rows.map(({ tenant_id }) => tenant_id);
}

describe("a tenant with an account of its own", () => {
	test("publishes with an acknowledgement of our stream, under its own subject there", async () => {
		const ack = await acme.jetstream().publish("audit.events", event("from.account"));
		expect(ack.stream).toBe("AUDIT");
		expect((await jsm.streams.getMessage("AUDIT", { seq: ack.seq })).subject).toBe("audit.events.acme");
		expect(await untilStored("from.account")).toEqual(["acme"]);
		expect(door.degraded()).toEqual(saidOf(nats));
	});

	test("is bound to its tenant whatever the event says", async () => {
		const { seq } = await acme.jetstream().publish("audit.events", event("forged.event", "globex"));
		const sql = "SELECT reason, tenant_id FROM audit.dead_letters WHERE stream_seq = $1";
		const letter = await waitFor(async () => (await admin.query(sql, [seq])).rows[0]);
		expect(letter).toEqual({ reason: "TENANT_MISMATCH", tenant_id: "acme" });
	});

	test("reaches no other subject: nobody listens in its account", async () => {
		for (const subject of ["audit.events.globex", "audit.events.acme", "audit.chain", "audit.dlq"]) {
			await expect(acme.jetstream().publish(subject, event("x"))).rejects.toMatchObject({ code: "503" });
		}
	});

	test("finds no stream, though its user may do everything in its account", async () => {
		for (const call of ["STREAM.INFO.AUDIT", "STREAM.PURGE.AUDIT", "STREAM.DELETE.AUDIT", "STREAM.MSG.GET.AUDIT"]) {
			const reply = await acme.request(`$JS.API.${call}`, '{"seq":1}', { timeout: 20_000 });
			expect(reply.json()).toMatchObject({ error: { description: "JetStream not enabled for account" } });
		}
		// nats-server 2.9 says nothing to these where newer ones say that nobody listens: an answer would be a message.
		const answers: unknown[] = [];
		acme.subscribe("answers", { callback: (_, message) => answers.push(message.headers?.code ?? message.string()) });
		for (const call of ["CONSUMER.MSG.NEXT.AUDIT.audit-writer", "DIRECT.GET.AUDIT"]) {
			acme.publish(`$JS.API.${call}`, '{"batch":1,"seq":1}', { reply: "answers" });
		}
		await acme.request("$JS.API.INFO", "", { timeout: 20_000 });
		expect(answers.filter((answer) => answer !== 503)).toEqual([]);
	});

	test("hears nothing of others, though it may listen to everything", async () => {
		const heard: string[] = [];
		acme.subscribe(">", { callback: (_, message) => heard.push(message.subject) });
		await acme.flush();
		await globex.jetstream().publish("audit.events", event("globex.only"));
		expect(await untilStored("globex.only")).toEqual(["globex"]);
		acme.publish("the.end");
		await waitFor(() => heard.includes("the.end"));
		expect(heard).toEqual(["the.end"]);
	});

	test.each([
		"$JS.API.STREAM.PURGE.AUDIT",
		"$JS.API.STREAM.MSG.DELETE.AUDIT",
		"$JS.ACK.AUDIT.audit-writer.1.1.1.1700000000000000000.0",
		"audit.events.globex",
		"audit.chain",
	])("has its acknowledgement sent nowhere outside its account: %s", async (reply) => {
		const before = (await jsm.streams.info("AUDIT")).state;
		const chain = (await jsm.streams.info("AUDIT_CHAIN")).state.last_seq;
		globex.publish("audit.events", event("with.reply"), { reply });
		await globex.flush();
		await globex.jetstream().publish("audit.events", event("after.reply"));
		await untilStored("after.reply");
		const { state } = await jsm.streams.info("AUDIT");
		expect(state.first_seq).toBe(1);
		// The one after it, and, where the server lets it through, its own.
		expect(state.messages - before.messages).toBeLessThanOrEqual(2);
		for (let seq = before.last_seq + 1; seq <= state.last_seq; seq += 1) {
			const message = await jsm.streams.getMessage("AUDIT", { seq });
			expect(message.json()).toMatchObject({ action: expect.stringMatching(/\.reply$/) });
		}
		expect((await jsm.streams.info("AUDIT_CHAIN")).state.last_seq).toBe(chain);
	});
});

describe("a user who may do everything in the stream's account", () => {
	const SUBJECTS = { AUDIT: "audit.events", AUDIT_DLQ: "audit.dlq", AUDIT_CHAIN: "audit.chain" };

	test.each(["AUDIT", "AUDIT_DLQ", "AUDIT_CHAIN"] as const)(
		"neither purges nor deletes messages of %s",
		async (stream) => {
			await service.jetstream().publish(SUBJECTS[stream], event("to.be.purged", "acme"));
			const before = (await jsm.streams.info(stream)).state;
			expect(before.messages).toBeGreaterThan(0);
			await expect(jsm.streams.purge(stream)).rejects.toThrow(/not permitted/);
			await expect(jsm.streams.deleteMessage(stream, before.last_seq, false)).rejects.toThrow(/not permitted/);
			expect((await jsm.streams.info(stream)).state).toMatchObject({ first_seq: 1, messages: before.messages });
		},
	);

	test.each(["AUDIT", "AUDIT_DLQ", "AUDIT_CHAIN"])("cannot take back that %s forbids it", async (stream) => {
		await expect(jsm.streams.update(stream, { deny_purge: false })).rejects.toThrow(/can not cancel deny purge/);
		await expect(jsm.streams.update(stream, { deny_delete: false })).rejects.toThrow(/can not cancel deny message/);
	});
});
