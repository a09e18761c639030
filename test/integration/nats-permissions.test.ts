import { readFileSync } from "node:fs";
import { connect, type NatsConnection } from "nats";
import { beforeAll, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import { saidOf, startDoor, untilUp } from "../support/nats-client.ts";
import { startOwnNats, waitFor } from "../support/services.ts";

/** The accounts as docs/nats.md shows them. */
const accounts = /```conf\n(.*?)```/s.exec(readFileSync(new URL("../../docs/nats.md", import.meta.url), "utf8"))?.[1];

let nats: Nats;
let door: NatsDoor;
const connections: NatsConnection[] = [];
const accepted: string[] = [];

beforeAll(async () => {
	nats = await startOwnNats({ config: accounts ?? "the configuration is missing" });
	door = startDoor({
		url: nats.url.replace("//", "//auditlog:change-me@"),
		ingest: {
			acceptMessages: async (items) => {
				accepted.push(...items.map(({ origin }) => origin.subject));
				return { deadLetters: items.map(({ origin }) => ({ ...origin, reason: "R", message: "", violations: [] })) };
			},
		},
	});
	await untilUp(door);
	return async () => {
		await Promise.all(connections.map((connection) => connection.close()));
		await door.close();
		await nats.stop();
	};
});

async function as(user: string): Promise<NatsConnection> {
	const inboxPrefix = `_INBOX_${user}`;
	const connection = await connect({ servers: nats.url, user, pass: "change-me", inboxPrefix });
	connections.push(connection);
	return connection;
}

test("the service has all it needs: streams, consumer, copies of dead letters, and whether the server syncs", async () => {
	expect(door.degraded()).toEqual(saidOf(nats));
	expect(door.status().sync).toBe(nats.syncAlways ? "always" : "periodic");
	const gateway = await as("gateway");
	for (const subject of ["audit.events", "audit.events.initech"]) await gateway.jetstream().publish(subject, "{}");
	await waitFor(() => accepted.includes("audit.events") && accepted.includes("audit.events.initech"));
	const service = await connect({ servers: nats.url, user: "auditlog", pass: "change-me" });
	connections.push(service);
	const jsm = await service.jetstreamManager();
	await waitFor(async () => (await jsm.streams.info("AUDIT_DLQ")).state.messages >= 2, { what: "the copies" });
});

test("a tenant's producer publishes its own tenant's events and nothing else", async () => {
	const acme = await as("acme");
	await acme.jetstream().publish("audit.events.acme", "{}");
	await waitFor(() => accepted.includes("audit.events.acme"));
	for (const subject of ["audit.events.globex", "audit.events", "audit.dlq", "audit.chain"]) {
		await expect(acme.jetstream().publish(subject, "{}", { timeout: 500 })).rejects.toThrow(/PERMISSIONS|TIMEOUT/i);
	}
	expect(accepted).not.toContain("audit.events.globex");
});

test("nobody but the service reads or manages the stream, or listens to what others publish", async () => {
	const acme = await as("acme");
	const calls = [
		"STREAM.INFO.AUDIT",
		"STREAM.MSG.GET.AUDIT",
		"CONSUMER.MSG.NEXT.AUDIT.audit-writer",
		"STREAM.DELETE.AUDIT",
	];
	for (const call of calls) {
		await expect(acme.request(`$JS.API.${call}`, '{"seq":1}', { timeout: 500 })).rejects.toThrow(
			/PERMISSIONS|TIMEOUT/i,
		);
	}
	for (const subject of ["audit.events.globex", "audit.events.>", "_INBOX_globex.>", "_INBOX.>", "audit.dlq"]) {
		const refused = Promise.withResolvers<Error | null>();
		acme.subscribe(subject, { callback: (error) => refused.resolve(error) });
		expect((await refused.promise)?.message).toMatch(/Permissions Violation/);
	}
});
