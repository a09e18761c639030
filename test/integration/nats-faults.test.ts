import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { freePort } from "../../src/dev/free-port.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { AuditError } from "../../src/errors.ts";
import type { Ingest, MessageItem } from "../../src/ingest/ingest.ts";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import { checkTrail } from "../support/check-trail.ts";
import {
	eventMessage,
	lastingPort,
	type NatsClient,
	openNatsClient,
	saidOf,
	startDoor,
	untilDrained,
	untilUp,
} from "../support/nats-client.ts";
import {
	createTestDatabase,
	ownDirectory,
	startOwnNats,
	type TestDatabase,
	testSecret,
	waitFor,
} from "../support/services.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { anEvent, openWritePath, type WritePath } from "../support/write-path.ts";

let dataDir: string;
let nats: Nats;
let database: TestDatabase;
let path: WritePath;
let admin: Client;
/** Closed at the end of the test. */
let open: { close(): Promise<void> }[];

beforeEach(async () => {
	dataDir = ownDirectory("nats");
	[nats, database] = await Promise.all([startOwnNats({ dataDir, port: lastingPort() }), createTestDatabase()]);
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	open = [];
});

afterEach(async () => {
	for (const closing of open.reverse()) await closing.close();
	await path.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await Promise.all([database.drop(), nats.stop()]);
});

async function aClient(): Promise<NatsClient> {
	const client = await openNatsClient(nats.url);
	open.push(client);
	return client;
}

/** A door that gives up a silent message after two seconds instead of sixty. */
function aDoor(ingest: Parameters<typeof startDoor>[0]["ingest"] = path.ingest, url = nats.url): NatsDoor {
	const door = startDoor({ url, ingest, ackWaitMs: 2_000 });
	open.push(door);
	return door;
}

const events = (n: number, prefix = "n") =>
	Array.from({ length: n }, (_, i) => eventMessage(anEvent({ action: `${prefix}.${i}` })));

/** How many events are stored, and under how many names: every event of these tests has one of its own. */
async function stored(): Promise<{ events: number; names: number }> {
	const { rows } = await admin.query(
		"SELECT count(*)::int AS events, count(DISTINCT action)::int AS names FROM audit.events WHERE kind = 1",
	);
	return rows[0];
}

const away = () => new AuditError("unavailable", "the database is away; try again", { reason: "DATABASE_UNAVAILABLE" });

describe("NATS", () => {
	test("may be away at the start: the door comes up by itself when it is there", async () => {
		const port = await freePort(lastingPort());
		const door = aDoor(path.ingest, `nats://127.0.0.1:${port}`);
		await waitFor(() => door.degraded()[0]?.includes("CONNECTION_REFUSED"), { what: "the reason" });
		expect(door.status().state).toBe("connecting");
		const late = await startOwnNats({ port });
		try {
			await untilUp(door);
			expect(door.degraded()).toEqual(saidOf(late));
			const client = await openNatsClient(late.url);
			await client.publish(events(10));
			await untilDrained(client);
			await client.close();
			expect(await stored()).toEqual({ events: 10, names: 10 });
			await door.close();
		} finally {
			await late.stop();
		}
	});

	test.each(["SIGTERM", "SIGKILL"] as const)(
		"ended by %s in the middle of a drain and started again: each event is stored once",
		async (signal) => {
			const client = await aClient();
			const maker = aDoor();
			await untilUp(maker);
			await maker.close();
			await client.publish(events(6_000));

			let flushes = 0;
			const door = aDoor({
				async acceptMessages(items) {
					flushes += 1;
					if (flushes === 1) {
						process.kill(nats.pid, signal);
						await nats.exited;
					}
					return await path.ingest.acceptMessages(items);
				},
			});
			await waitFor(() => flushes > 0 && door.status().state === "connecting", { what: "noticing" });
			await nats.exited;
			nats = await startOwnNats({ dataDir, port: nats.port });
			await untilDrained(client);
			expect(await stored()).toEqual({ events: 6_000, names: 6_000 });
		},
	);

	test("cut off from a door that has committed and not acknowledged: delivered again, stored once", async () => {
		const client = await aClient();
		const proxy = await startTcpProxy(nats.port);
		const committed = Promise.withResolvers<void>();
		const crashed = Promise.withResolvers<void>();
		const first = aDoor(
			{
				async acceptMessages(items) {
					const result = await path.ingest.acceptMessages(items);
					committed.resolve();
					await crashed.promise;
					return result;
				},
			},
			`nats://127.0.0.1:${proxy.port}`,
		);
		await untilUp(first);
		await client.publish(events(100));
		await committed.promise;
		await proxy.cut();
		const duplicates: number[] = [];
		aDoor({
			async acceptMessages(items) {
				const result = await path.ingest.acceptMessages(items);
				duplicates.push(result.duplicate);
				return result;
			},
		});
		await untilDrained(client);
		crashed.resolve();
		expect(await stored()).toEqual({ events: 100, names: 100 });
		expect(duplicates.reduce((sum, n) => sum + n, 0)).toBeGreaterThan(0);
	});

	test("loses the consumer: it is made again, and what it delivers again is recognised", async () => {
		const client = await aClient();
		const door = aDoor();
		await untilUp(door);
		await client.publish(events(500));
		await untilDrained(client);
		await client.jsm.consumers.delete("AUDIT", "audit-writer");
		await client.publish(events(500, "m"));
		await waitFor(async () => (await client.progress()).unacknowledged === 0);
		expect(await stored()).toEqual({ events: 1_000, names: 1_000 });
	});

	test("loses the stream, and gets another of the same name: what is held is stored, what is new is not mistaken for it", async () => {
		const client = await aClient();
		let storing = "nothing";
		const door = aDoor({
			acceptMessages: (items) => {
				const ok = storing === "everything" || (storing === "old" && items[0]?.input?.action.startsWith("old."));
				return ok ? path.ingest.acceptMessages(items) : Promise.reject(away());
			},
		});
		await untilUp(door);
		await client.publish(events(50, "old"));
		await waitFor(() => door.status().reason, { what: "holding the first messages" });
		const before = await client.jsm.streams.info("AUDIT");
		await client.jsm.streams.delete("AUDIT");
		await waitFor(async () => (await client.jsm.streams.info("AUDIT")).created !== before.created);
		await waitFor(() => client.jsm.consumers.info("AUDIT", "audit-writer"));
		await client.publish(events(50, "new"));
		storing = "old";
		await waitFor(async () => (await stored()).events === 50, { what: "the messages of the stream that is gone" });
		await waitFor(() => door.status().reason, { what: "holding the new ones" });
		// They have the same numbers as the old ones: an acknowledgement of those would have lost them.
		expect((await client.progress()).unacknowledged).toBe(50);
		storing = "everything";
		await untilDrained(client);
		expect(await stored()).toEqual({ events: 100, names: 100 });
	});
});

describe("PostgreSQL away", () => {
	test("nothing is acknowledged, delivered again or given up; when it is back everything goes on", async () => {
		const client = await aClient();
		let postgres: "away" | "there" = "away";
		const acceptMessages: Ingest["acceptMessages"] = (items) =>
			postgres === "away" ? Promise.reject(away()) : path.ingest.acceptMessages(items);
		const door = startDoor({ url: nats.url, ingest: { acceptMessages }, ackWaitMs: 5_000 });
		open.push(door);
		await untilUp(door);
		await client.publish(events(200));
		await waitFor(() => door.degraded()[0]?.includes("the database is away"), { what: "the status" });
		// Longer than the five seconds after which a message that nobody asked more time for is delivered again.
		const until = performance.now() + 7_000;
		await waitFor(() => performance.now() > until);
		const info = await client.jsm.consumers.info("AUDIT", "audit-writer");
		expect(info.ack_floor.stream_seq).toBe(0);
		expect(info.num_redelivered).toBe(0);
		expect(info.delivered.consumer_seq).toBe(200);
		expect(door.status().state).toBe("up");
		postgres = "there";
		await untilDrained(client);
		expect(door.degraded()).toEqual(saidOf(nats));
		expect(await stored()).toEqual({ events: 200, names: 200 });
	});

	test("the door holds a bounded number of bytes and pulls no more", async () => {
		const client = await aClient();
		let postgres: "away" | "there" = "away";
		const door = aDoor({
			acceptMessages: (items) => (postgres === "away" ? Promise.reject(away()) : path.ingest.acceptMessages(items)),
		});
		await untilUp(door);
		const large = Array.from({ length: 400 }, (_, i) => {
			const metadata = { text: "x".repeat(100_000) };
			return eventMessage(anEvent({ action: `n.${i}`, metadata }));
		});
		await client.publish(large);
		await waitFor(() => door.status().reason, { what: "the status" });
		const { num_ack_pending, num_pending } = await client.jsm.consumers.info("AUDIT", "audit-writer");
		// A flush being committed, one formed and one waiting, of 8 MiB each.
		expect(num_ack_pending * 100_000).toBeLessThanOrEqual(3 * 8.5 * 1024 * 1024);
		expect(num_ack_pending + num_pending).toBe(400);
		postgres = "there";
		await untilDrained(client);
		expect(await stored()).toEqual({ events: 400, names: 400 });
	});

	test("a database too slow for a whole flush gets it in smaller parts", async () => {
		const client = await aClient();
		const maker = aDoor();
		await untilUp(maker);
		await maker.close();
		await client.publish(events(1_500));
		const sizes: number[] = [];
		aDoor({
			acceptMessages: (items) => {
				sizes.push(items.length);
				return items.length > 400 ? Promise.reject(away()) : path.ingest.acceptMessages(items);
			},
		});
		await untilDrained(client);
		expect(Math.max(...sizes)).toBeGreaterThan(400);
		expect(await stored()).toEqual({ events: 1_500, names: 1_500 });
	});

	test("a commit whose reply was lost is not acknowledged until it is known; then stored once", async () => {
		const client = await aClient();
		let tries = 0;
		const door = aDoor({
			async acceptMessages(items) {
				tries += 1;
				const result = await path.ingest.acceptMessages(items);
				if (tries === 1) throw away();
				return result;
			},
		});
		await untilUp(door);
		await client.publish(events(100));
		await untilDrained(client);
		expect(tries).toBeGreaterThan(1);
		expect(await stored()).toEqual({ events: 100, names: 100 });
	});
});

describe("acknowledgement", () => {
	test("comes only after the commit", async () => {
		const client = await aClient();
		const seen: { acknowledged: number; storedBefore: number }[] = [];
		const door = aDoor({
			async acceptMessages(items: readonly MessageItem[]) {
				const { events: storedBefore } = await stored();
				const result = await path.ingest.acceptMessages(items);
				// The transaction is committed, the door does not know yet.
				const { ackFloor: acknowledged } = await client.progress();
				seen.push({ acknowledged, storedBefore });
				return result;
			},
		});
		await untilUp(door);
		for (let round = 0; round < 5; round += 1) await client.publish(events(50, `r${round}`));
		await untilDrained(client);
		expect(seen.length).toBeGreaterThan(0);
		for (const { acknowledged, storedBefore } of seen) expect(acknowledged).toBeLessThanOrEqual(storedBefore);
		expect((await client.progress()).ackFloor).toBe(250);
	});
});

describe("closing", () => {
	test("finishes and acknowledges the commit under way and gives the rest back, so that another goes on at once", async () => {
		const client = await aClient();
		// A server before 2.10 forgets one of what it is given back until its time is over.
		const givesBackAll = nats.syncAlways;
		const ackWaitMs = givesBackAll ? 60_000 : 30_000;
		const committing = Promise.withResolvers<void>();
		const proceed = Promise.withResolvers<void>();
		const first = startDoor({
			url: nats.url,
			ackWaitMs,
			ingest: {
				async acceptMessages(items) {
					committing.resolve();
					await proceed.promise;
					return await path.ingest.acceptMessages(items);
				},
			},
		});
		await untilUp(first);
		await client.publish(events(100));
		await committing.promise;
		await client.publish(events(100, "m"));
		await waitFor(async () => (await client.progress()).unacknowledged === 200);
		const closed = first.close();
		proceed.resolve();
		await closed;
		const { events: byFirst } = await stored();
		expect(byFirst).toBeGreaterThan(0);
		expect((await client.progress()).ackFloor).toBe(byFirst);

		open.push(startDoor({ url: nats.url, ingest: path.ingest, ackWaitMs }));
		// Far less than the time after which silence alone would have the rest delivered again.
		const atOnce = givesBackAll ? 200 : 199;
		await waitFor(async () => (await stored()).events >= atOnce, { deadlineMs: 20_000, what: "the rest" });
		await untilDrained(client);
		expect(await stored()).toEqual({ events: 200, names: 200 });
	});

	test("does not wait for a database that is away, nor for a NATS that is", async () => {
		const client = await aClient();
		const door = startDoor({ url: nats.url, ingest: { acceptMessages: () => Promise.reject(away()) } });
		await untilUp(door);
		await client.publish(events(10));
		await waitFor(() => door.status().reason);
		const nowhere = startDoor({ url: `nats://127.0.0.1:${await freePort()}`, ingest: path.ingest });
		const startedAt = performance.now();
		await Promise.all([door.close(), nowhere.close()]);
		// Either would be waited for for 5 s.
		expect(performance.now() - startedAt).toBeLessThan(4_500);
		expect(door.status().state).toBe("closed");
		// A server before 2.10 counts one of those given back twice.
		expect((await client.progress()).unacknowledged).toBe(nats.syncAlways ? 10 : 11);
	});
});
