import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { AckPolicy, DeliverPolicy, DiscardPolicy, nanos, RetentionPolicy, StorageType } from "nats";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import { reconcileStreams } from "../../src/ingest/nats-stream.ts";
import {
	lastingPort,
	type NatsClient,
	openNatsClient,
	saidOf,
	startDoor,
	untilDrained,
	untilUp,
} from "../support/nats-client.ts";
import { ownDirectory, startOwnNats, waitFor } from "../support/services.ts";

const HOUR = nanos(3_600_000);
const logger = pino({ level: "silent" });

let dataDir: string;
let nats: Nats;
let client: NatsClient;
let doors: NatsDoor[];
/** Bodies of the messages given to be stored. */
let accepted: string[];

beforeEach(async () => {
	dataDir = ownDirectory("nats");
	nats = await startOwnNats({ dataDir, port: lastingPort() });
	client = await openNatsClient(nats.url);
	doors = [];
	accepted = [];
});

afterEach(async () => {
	await client.close();
	for (const door of doors) await door.close();
	await nats.stop();
});

function aDoor(url = nats.url): NatsDoor {
	const ingest = {
		acceptMessages: async (items: readonly { origin: { body: Uint8Array } }[]) => {
			accepted.push(...items.map(({ origin }) => new TextDecoder().decode(origin.body)));
			return { deadLetters: [] };
		},
	};
	const door = startDoor({ url, ingest, ackWaitMs: 2_000 });
	doors.push(door);
	return door;
}

const reconcile = () => reconcileStreams(client.nc, { ackWaitMs: 60_000 }, logger);
const config = async (stream: string) => (await client.jsm.streams.info(stream)).config;

describe("on an empty server", () => {
	test("the streams and the consumer are made as the contract says", async () => {
		const { missing } = await reconcile();
		expect(missing).toEqual([]);
		const common = {
			storage: "file",
			retention: "limits",
			deny_delete: true,
			deny_purge: true,
			allow_rollup_hdrs: false,
			sealed: false,
		};
		const audit = await config("AUDIT");
		expect(audit).toMatchObject({
			...common,
			subjects: ["audit.events", "audit.events.*"],
			max_age: 7 * 24 * HOUR,
			max_msg_size: 1024 * 1024,
			duplicate_window: nanos(120_000),
			discard: "new",
		});
		expect(audit.max_bytes).toBeGreaterThan(0);
		expect((audit as { allow_msg_ttl?: boolean }).allow_msg_ttl ?? false).toBe(false);
		expect(await config("AUDIT_DLQ")).toMatchObject({ ...common, subjects: ["audit.dlq"], max_age: 0, discard: "new" });
		const chain = await config("AUDIT_CHAIN");
		expect(chain).toMatchObject({ ...common, subjects: ["audit.chain"] });
		expect(chain.max_age).toBeGreaterThanOrEqual(7 * 24 * HOUR);
		expect((await client.jsm.consumers.info("AUDIT", "audit-writer")).config).toMatchObject({
			ack_policy: "explicit",
			deliver_policy: "all",
			max_deliver: -1,
			ack_wait: nanos(60_000),
		});
	});

	test("doing it again changes nothing", async () => {
		const first = await reconcile();
		const before = await Promise.all(["AUDIT", "AUDIT_DLQ", "AUDIT_CHAIN"].map(config));
		const again = await reconcile();
		expect(await Promise.all(["AUDIT", "AUDIT_DLQ", "AUDIT_CHAIN"].map(config))).toEqual(before);
		expect(again.event.created).toBe(first.event.created);
		expect(again.consumer.created).toBe(first.consumer.created);
	});

	test("messages can be neither deleted nor purged, nor rolled up, whoever asks", async () => {
		await reconcile();
		await client.publish([{ subject: "audit.events.acme", data: "{}" }]);
		await expect(client.jsm.streams.deleteMessage("AUDIT", 1)).rejects.toThrow(/not permitted/);
		await expect(client.jsm.streams.purge("AUDIT")).rejects.toThrow(/not permitted/);
		const rollup = { subject: "audit.events.acme", data: "{}", headers: { "Nats-Rollup": "all" } };
		await expect(client.publish([rollup])).rejects.toThrow(/rollup not permitted/);
		expect((await client.jsm.streams.info("AUDIT")).state.messages).toBe(1);
	});

	test("a server with little room gets a smaller stream", async () => {
		const small = await startOwnNats({ config: "jetstream { max_file_store: 3GB }" });
		const other = await openNatsClient(small.url);
		try {
			await reconcileStreams(other.nc, { ackWaitMs: 60_000 }, logger);
			const { max_bytes } = (await other.jsm.streams.info("AUDIT")).config;
			expect(max_bytes).toBeGreaterThan(0);
			expect(max_bytes).toBeLessThan(3e9);
			// And again: it cannot be raised, and that is no reason to stay down.
			await reconcileStreams(other.nc, { ackWaitMs: 60_000 }, logger);
		} finally {
			await other.close();
			await small.stop();
		}
	});
});

describe("what is there already", () => {
	test("is brought up to date where no message is touched; what is more generous stays", async () => {
		await client.jsm.streams.add({
			name: "AUDIT",
			subjects: ["audit.events.>"],
			max_age: 24 * HOUR,
			max_msgs: 1_000,
			max_bytes: 40 * 1024 ** 3,
			discard: DiscardPolicy.Old,
			allow_rollup_hdrs: true,
		});
		await client.publish([{ subject: "audit.events.acme", data: "{}" }]);
		await client.jsm.consumers.add("AUDIT", {
			durable_name: "audit-writer",
			ack_policy: AckPolicy.Explicit,
			max_deliver: 3,
			ack_wait: nanos(1_000),
		});
		const { event } = await reconcile();
		expect(event.state.messages).toBe(1);
		expect(await config("AUDIT")).toMatchObject({
			subjects: ["audit.events", "audit.events.*"],
			max_age: 7 * 24 * HOUR,
			max_msgs: -1,
			max_bytes: 40 * 1024 ** 3,
			discard: "new",
			allow_rollup_hdrs: false,
			deny_delete: true,
			deny_purge: true,
		});
		expect((await client.jsm.consumers.info("AUDIT", "audit-writer")).config).toMatchObject({
			max_deliver: -1,
			ack_wait: nanos(60_000),
		});
	});

	test.each([
		["kept in memory", { storage: StorageType.Memory }, /is kept in memory/],
		["a work queue", { retention: RetentionPolicy.Workqueue }, /retention policy workqueue/],
		[
			"rewriting subjects",
			{ subject_transform: { src: "audit.events.*", dest: "audit.events.acme" } },
			/rewrites subjects/,
		],
	])(
		"is refused if it is %s: the door stays down and says why, and comes up once that is put right",
		async (_, differs, why) => {
			const made = client.jsm.streams.add({ name: "AUDIT", subjects: ["audit.events", "audit.events.*"], ...differs });
			if ("subject_transform" in differs && !nats.syncAlways) {
				// A server of that age cannot rewrite subjects, so there is nothing to refuse.
				await expect(made).rejects.toThrow(/requires server 2.10/);
				return;
			}
			await made;
			const door = aDoor();
			await waitFor(() => why.test(door.status().reason ?? ""), { what: "the reason" });
			expect(door.status().state).toBe("connecting");
			expect(door.degraded()).toEqual([expect.stringMatching(why)]);
			expect((await config("AUDIT")).deny_delete).toBe(false);

			await client.jsm.streams.delete("AUDIT");
			await untilUp(door);
			expect(door.degraded()).toEqual(saidOf(nats));
		},
	);

	test.each([
		[
			"stores messages under subjects that headers name",
			{ allow_msg_schedules: true },
			/whatever subject their headers/,
		],
		["replaces bodies by counters", { allow_msg_counter: true }, /by counters/],
	])("is refused if it %s, where the server knows of that", async (_, differs, why) => {
		const subjects = ["audit.events", "audit.events.*"];
		const made = await client.jsm.streams.add({ name: "AUDIT", subjects, ...differs });
		const [field = ""] = Object.keys(differs);
		if (field in made.config) await expect(reconcile()).rejects.toThrow(why);
		else expect((await reconcile()).missing).toEqual([]);
	});

	test.each([
		["skips what was there before it", { deliver_policy: DeliverPolicy.New }, /delivery policy new/],
		["skips messages by a filter", { filter_subject: "audit.events.acme" }, /skips messages/],
		["acknowledges by itself", { ack_policy: AckPolicy.None }, /ack policy none/],
	])("is refused if the consumer %s", async (_, differs, why) => {
		await reconcile();
		await client.jsm.consumers.delete("AUDIT", "audit-writer");
		await client.jsm.consumers.add("AUDIT", {
			durable_name: "audit-writer",
			ack_policy: AckPolicy.Explicit,
			deliver_policy: DeliverPolicy.All,
			...differs,
		});
		await expect(reconcile()).rejects.toThrow(why);
	});

	test("is refused if another stream has our subjects", async () => {
		await client.jsm.streams.add({ name: "OTHER", subjects: ["audit.>"] });
		await expect(reconcile()).rejects.toThrow(/AUDIT cannot be created: subjects overlap/);
	});

	test("does without dead-letter copies and chain heads if only their streams are amiss, and says so", async () => {
		await client.jsm.streams.add({ name: "OTHER", subjects: ["audit.dlq"] });
		const door = aDoor();
		await untilUp(door);
		const said = expect.stringMatching(/stream AUDIT_DLQ cannot be created/);
		expect(door.degraded()).toEqual([said, ...saidOf(nats)]);
	});
});

test("a stream that lost its tail is read from the start: its new messages are not taken for old ones", async () => {
	const door = aDoor();
	await untilUp(door);
	const bodies = (prefix: string) => Array.from({ length: 20 }, (_, i) => `{"${prefix}":${i}}`);
	const outgoing = (prefix: string) => bodies(prefix).map((data) => ({ subject: "audit.events", data }));
	await client.publish(outgoing("old"));
	await untilDrained(client);
	const { port } = nats;
	await nats.stop();
	const [messages] = (await readdir(dataDir, { recursive: true })).filter((name) => name.endsWith("AUDIT/msgs"));
	await rm(join(dataDir, messages ?? "where are they?"), { recursive: true });
	nats = await startOwnNats({ dataDir, port });
	await untilUp(door);
	await waitFor(() => client.progress(), { what: "the producer's own reconnect" });
	await client.publish(outgoing("new"));
	await untilDrained(client);
	expect(accepted).toEqual(expect.arrayContaining(bodies("new")));
});

describe("whether the server syncs before it acknowledges", () => {
	const system = (sync: string) => `
		${nats.syncAlways ? `jetstream { sync_interval: ${sync} }` : "# a server that knows no such setting, and does not start with it"}
		accounts {
			SYS { users: [{ user: sys, password: sys }], exports: [{ service: "$SYS.REQ.SERVER.*.VARZ" }] }
			AUDIT {
				jetstream: enabled
				users: [{ user: audit, password: "p@ss" }]
				imports: [{ service: { account: SYS, subject: "$SYS.REQ.SERVER.*.VARZ" } }]
			}
		}
		system_account: SYS`;

	test("is unknown to a plain client, and never guessed: it is known of a server that has no choice", async () => {
		const own = await startOwnNats({ config: "# one account, and nothing of the system's in it" });
		try {
			const door = aDoor(own.url);
			await untilUp(door);
			expect(door.status().sync).toBe(nats.syncAlways ? "unknown" : "periodic");
			await door.close();
		} finally {
			await own.stop();
		}
	});

	test.each([
		["always", "always"],
		["2m", "periodic"],
	])("is known where the account imports the system account's VARZ: %s", async (setting, wanted) => {
		const sync = nats.syncAlways ? wanted : "periodic";
		const own = await startOwnNats({ config: system(setting) });
		try {
			const door = aDoor(own.url.replace("//", "//audit:p%40ss@"));
			await untilUp(door);
			expect(door.status().sync).toBe(sync);
			expect(door.degraded()).toHaveLength(sync === "periodic" ? 1 : 0);
			await door.close();
		} finally {
			await own.stop();
		}
	});
});
