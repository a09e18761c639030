import { toBinary } from "@bufbuild/protobuf";
import {
	connect,
	headers,
	type JetStreamClient,
	type JetStreamManager,
	type NatsConnection,
	type PubAck,
	type StoredMsg,
} from "nats";
import { pino } from "pino";
import { expect } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { NatsDoor, type NatsDoorOptions } from "../../src/ingest/nats-door.ts";
import { waitFor } from "./services.ts";

/** A producer, and a look at what the server holds. */
export interface NatsClient {
	readonly nc: NatsConnection;
	readonly js: JetStreamClient;
	readonly jsm: JetStreamManager;
	/** Publishes and waits for every PubAck, some hundreds at a time. */
	publish(messages: readonly Outgoing[]): Promise<PubAck[]>;
	/** How many messages are delivered or waiting and not acknowledged, and up to where all are. */
	progress(): Promise<{ unacknowledged: number; ackFloor: number }>;
	/** What the stream holds, from the first message on. */
	messages(stream: string): Promise<StoredMsg[]>;
	close(): Promise<void>;
}

export interface Outgoing {
	readonly subject: string;
	readonly data: Uint8Array | string;
	readonly headers?: Record<string, string>;
}

export async function openNatsClient(url: string): Promise<NatsClient> {
	const nc = await connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 50, reconnectJitter: 10 });
	const js = nc.jetstream();
	// Short: a request that was under way when the server ended is never answered.
	const jsm = await nc.jetstreamManager({ checkAPI: false, timeout: 1_000 });
	return {
		nc,
		js,
		jsm,
		async publish(messages) {
			const acks: PubAck[] = [];
			for (let i = 0; i < messages.length; i += 500) {
				const sent = messages.slice(i, i + 500).map(({ subject, data, headers: fields }) => {
					const made = headers();
					for (const [name, value] of Object.entries(fields ?? {})) made.set(name, value);
					return js.publish(subject, data, { headers: made });
				});
				acks.push(...(await Promise.all(sent)));
			}
			return acks;
		},
		async progress() {
			const { state } = await jsm.streams.info("AUDIT");
			const info = await jsm.consumers.info("AUDIT", "audit-writer");
			const ackFloor = info.ack_floor.stream_seq;
			// The consumer's own counts do not know of a message yet that was stored a moment ago.
			const behind = state.messages > 0 ? state.last_seq - ackFloor : 0;
			return { unacknowledged: Math.max(behind, info.num_pending + info.num_ack_pending), ackFloor };
		},
		async messages(stream) {
			const { state } = await jsm.streams.info(stream);
			const seqs = Array.from({ length: state.messages }, (_, i) => state.first_seq + i);
			return await Promise.all(seqs.map((seq) => jsm.streams.getMessage(stream, { seq })));
		},
		close: () => nc.close(),
	};
}

/**
 * A port for a server that is to be restarted on it: below those the kernel gives to outgoing connections, one of which
 * could take it meanwhile.
 */
export function lastingPort(): number {
	return 20_000 + Math.floor(Math.random() * 10_000);
}

/** One event as one protobuf message, to the subject of its tenant. */
export function eventMessage(event: Event): Outgoing {
	return { subject: `audit.events.${event.tenantId}`, data: toBinary(EventSchema, event) };
}

/** A door that is up, or about to be. */
export function startDoor(options: Pick<NatsDoorOptions, "url" | "ingest"> & Partial<NatsDoorOptions>): NatsDoor {
	const door = new NatsDoor({ logger: pino({ level: "silent" }), ...options });
	door.start();
	return door;
}

export async function untilUp(door: NatsDoor): Promise<void> {
	await waitFor(() => door.status().state === "up", { what: "the NATS door" });
}

/** What a door in order says of a server: nothing, but for one that cannot sync before it acknowledges. */
export function saidOf({ syncAlways, version }: Pick<Nats, "syncAlways" | "version">): unknown[] {
	return syncAlways ? [] : [expect.stringContaining(`a power cut can lose messages (nats-server ${version} cannot`)];
}

/** Until every message of the stream is acknowledged. */
export async function untilDrained(client: NatsClient, deadlineMs = 45_000): Promise<void> {
	const what = "every message's acknowledgement";
	await waitFor(async () => (await client.progress()).unacknowledged === 0, { deadlineMs, what });
}
