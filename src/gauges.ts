import { setTimeout as sleep } from "node:timers/promises";
import type { Ingest } from "./ingest/ingest.ts";
import type { NatsDoor, NatsStatus } from "./ingest/nats-door.ts";
import type { Database } from "./storage/db.ts";
import type { Partitions } from "./storage/partitions.ts";
import { type Telemetry, value } from "./telemetry.ts";
import { VERSION } from "./version.ts";

export interface GaugeSources {
	readonly db: Database;
	readonly ingest: Ingest;
	readonly partitions: Partitions;
	/** If it is configured. */
	readonly natsDoor: NatsDoor | undefined;
}

/** The gauges that show the state of things, read whenever `/metrics` is asked for. */
export function addGauges(telemetry: Telemetry, { db, ingest, partitions, natsDoor }: GaugeSources): void {
	telemetry.gauge("audit_queue_events", () => value(ingest.waiting.events));
	telemetry.gauge("audit_queue_bytes", () => value(ingest.waiting.bytes));
	telemetry.gauge("audit_queue_oldest_seconds", () => value(ingest.waiting.oldestMs / 1000));
	telemetry.gauge("audit_partitions_ahead", () => value(partitions.monthsAhead(new Date())));

	const ofNats = (read: (status: NatsStatus) => number | undefined) => () => {
		const now = natsDoor && read(natsDoor.status());
		return now === undefined ? [] : value(now);
	};
	telemetry.gauge(
		"audit_nats_connected",
		ofNats(({ state }) => (state === "up" ? 1 : 0)),
	);
	telemetry.gauge(
		"audit_nats_consumer_pending",
		ofNats(({ pending, ackPending }) => pending && pending - (ackPending ?? 0)),
	);
	telemetry.gauge(
		"audit_nats_ack_pending",
		ofNats(({ ackPending }) => ackPending),
	);
	telemetry.gauge(
		"audit_nats_held_messages",
		ofNats(({ held }) => held),
	);
	telemetry.gauge(
		"audit_nats_oldest_seconds",
		ofNats(({ oldestMs }) => oldestMs / 1000),
	);

	const postgresVersion = onceKnown(() => versionOf(db));
	telemetry.gauge("audit_build_info", async () => {
		const versions = { version: VERSION, node: process.versions.node, nats: natsDoor?.status().server ?? "" };
		return [{ labels: { ...versions, postgres: await postgresVersion() }, value: 1 }];
	});
}

/** How long somebody who asks for metrics waits for what can be left out. */
const VERSION_MS = 1_000;

async function versionOf(db: Database): Promise<string> {
	const { rows } = await db.writer.query<{ server_version: string }>("SHOW server_version");
	return rows[0]?.server_version.split(" ")[0] ?? "";
}

/** Asks until there is an answer, one question at a time, and no more then; "" meanwhile. */
function onceKnown(ask: () => Promise<string>): () => Promise<string> {
	let known = "";
	let asking: Promise<void> | undefined;
	const askOnce = async () => {
		known = await ask().catch(() => "");
		asking = undefined;
	};
	return async () => {
		if (known === "") {
			asking ??= askOnce();
			await Promise.race([asking, sleep(VERSION_MS, undefined, { ref: false })]);
		}
		return known;
	};
}
