import { setTimeout as sleep } from "node:timers/promises";
import { toBinary } from "@bufbuild/protobuf";
import { connect as connectNats } from "nats";
import pg from "pg";
import { pino } from "pino";
import { loadConfig } from "../src/config.ts";
import { startNats } from "../src/dev/nats.ts";
import { type Event, EventSchema } from "../src/gen/audit/v1/event_pb.ts";
import { startServer } from "../src/server.ts";
import { migrate } from "../src/storage/migrate.ts";
import { verifyTrail } from "../src/storage/verify.ts";
import { query, SECRET } from "./service.ts";

/** One drain of a full stream by the NATS door: what bench/drain.ts and bench/read-drain.ts measure. */

/** All workloads have events of so many. */
export const TENANTS = 100;

export interface Workload {
	readonly events: number;
	/** One event per message. */
	readonly eventAt: (i: number) => Event;
}

export interface Drained {
	readonly eventsPerSecond: number;
	readonly nats: { readonly version: string; readonly syncAlways: boolean };
}

/** A migrated database with this month's partition. @param adminUrl of the database `postgres` */
export async function emptyDatabase(adminUrl: string, name: string): Promise<string> {
	await query(adminUrl, `CREATE DATABASE ${name}`);
	const url = adminUrl.replace(/\/postgres$/, `/${name}`);
	await migrate({ databaseUrl: url, secret: SECRET });
	await query(url, "SELECT audit.ensure_partition(now())");
	return url;
}

/**
 * Fills a stream while nobody drains it, then drains it. The clock runs from the commit of the first batch to that of the last;
 * the events of the first batch are not counted. The trail is verified.
 *
 * @param natsDir where the stream is to be: nothing is there yet
 */
export async function drain(databaseUrl: string, natsDir: string, { events, eventAt }: Workload): Promise<Drained> {
	const nats = await startNats({ dataDir: natsDir });
	if ("unavailable" in nats) throw new Error(nats.unavailable);
	try {
		const env = { DATABASE_URL: databaseUrl, NATS_URL: nats.url, AUDIT_SECRET: SECRET, HTTP_PORT: "0", GRPC_PORT: "0" };
		const config = loadConfig({ ...env, AUDIT_AUTO_CREATE_TENANTS: "true" });
		const logger = pino({ level: "error" }, pino.destination(2));
		// The first start makes the stream; then it is filled while nobody drains it.
		await (await startWhenUp(config, logger)).close();
		await fill(nats.url, { events, eventAt });
		const server = await startServer(config, logger);
		await untilStored(databaseUrl, events);
		await server.close();
		const [timing] = await query<{ events: number; seconds: number }>(
			databaseUrl,
			`SELECT sum(n) FILTER (WHERE batch_no > first)::float AS events,
			        extract(epoch FROM max(committed_at) - min(committed_at) FILTER (WHERE batch_no = first))::float AS seconds
			 FROM audit.manifests, (SELECT min(batch_no) AS first FROM audit.manifests WHERE n > 1) f`,
		);
		const verification = await verifyTrail({ databaseUrl, secret: SECRET });
		if (!verification.ok || verification.events !== events + TENANTS) {
			throw new Error(`the trail does not verify: ${JSON.stringify(verification)}`);
		}
		return { eventsPerSecond: (timing?.events ?? 0) / (timing?.seconds ?? Number.NaN), nats };
	} finally {
		await nats.stop();
	}
}

async function startWhenUp(config: Parameters<typeof startServer>[0], logger: Parameters<typeof startServer>[1]) {
	const server = await startServer(config, logger);
	while ((server.natsDoor?.degraded() ?? []).some((half) => /connecting|away/.test(half))) await sleep(20);
	return server;
}

async function fill(natsUrl: string, { events, eventAt }: Workload): Promise<void> {
	const nc = await connectNats({ servers: natsUrl });
	const js = nc.jetstream();
	const window: Promise<unknown>[] = [];
	for (let i = 0; i < events; i += 1) {
		window.push(js.publish("audit.events", toBinary(EventSchema, eventAt(i)), { timeout: 60_000 }));
		if (window.length === 500) await Promise.all(window.splice(0));
	}
	await Promise.all(window);
	await nc.close();
}

async function untilStored(databaseUrl: string, events: number): Promise<void> {
	const client = new pg.Client({ connectionString: databaseUrl });
	await client.connect();
	for (;;) {
		const { rows } = await client.query<{ n: string }>("SELECT coalesce(sum(n), 0) AS n FROM audit.manifests");
		if (Number(rows[0]?.n) >= events + TENANTS) break;
		await sleep(50);
	}
	await client.end();
}
