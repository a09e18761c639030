import { createReadStream, createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { connect as connectNats } from "nats";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { pino } from "pino";
import { Closer } from "../src/closer.ts";
import { loadConfig } from "../src/config.ts";
import { startNats } from "../src/dev/nats.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import { ActorType, Category, EventSchema, Severity } from "../src/gen/audit/v1/event_pb.ts";
import { startServer } from "../src/server.ts";
import { COPY_COLUMNS } from "../src/storage/copy.ts";
import { migrate } from "../src/storage/migrate.ts";
import { verifyTrail } from "../src/storage/verify.ts";
import { writeReport } from "./report.ts";

/**
 * How fast does the NATS door drain a full stream, compared with COPY of the very same rows into the same empty table?
 *
 *     node bench/drain.ts [EVENTS]        (default 100,000)
 *
 * One event per message. The clock of the drain runs from the commit of its first batch to that of its last (the
 * events of the first batch are not counted); the baseline streams the rows from a file through one connection.
 * Alternating runs in one process; the figure is the median of the ratios. Ends with a full verification.
 */

const EVENTS = Number(process.argv[2] ?? 100_000);
const RUNS = 3;
const TENANTS = 100;
const SECRET = "bench-bench-bench-bench-bench-bench";

export interface DrainResult {
	command: string;
	events: number;
	drainEventsPerSecond: number[];
	copyEventsPerSecond: number[];
	ratios: number[];
	medianRatio: number;
	postgres: string;
	nats: string;
	natsSyncAlways: boolean;
	node: string;
	synchronousCommit: string;
}

const closer = new Closer();
const folder = closer.add(mkdtempSync(join(tmpdir(), "auditlog-bench-")), (path) =>
	rmSync(path, { recursive: true, force: true }),
);
try {
	await bench();
} finally {
	await closer.close();
}

async function bench(): Promise<void> {
	const postgres = closer.add(await startPostgres({ dataDir: join(folder, "postgres") }), (p) => p.stop());
	const drains: number[] = [];
	const copies: number[] = [];
	let nats: { version: string; syncAlways: boolean } | undefined;
	for (let run = 1; run <= RUNS; run += 1) {
		const source = await emptyDatabase(postgres.url, `drain_${run}`);
		const drained = await drain(source, run);
		nats = drained.nats;
		drains.push(drained.eventsPerSecond);
		const file = join(folder, `rows_${run}.copy`);
		await unload(source, file);
		copies.push(await copyIn(await emptyDatabase(postgres.url, `copy_${run}`), file));
		process.stderr.write(
			`run ${run}: drain ${Math.round(drains.at(-1) ?? 0)}/s, copy ${Math.round(copies.at(-1) ?? 0)}/s\n`,
		);
	}
	const ratios = drains.map((rate, i) => rate / (copies[i] ?? Number.NaN));
	const [versions] = await query<{ version: string; sync: string }>(
		postgres.url,
		"SELECT current_setting('server_version') AS version, current_setting('synchronous_commit') AS sync",
	);
	const result: DrainResult = {
		command: `node bench/drain.ts ${EVENTS}`,
		events: EVENTS,
		drainEventsPerSecond: drains,
		copyEventsPerSecond: copies,
		ratios,
		medianRatio: [...ratios].sort((a, b) => a - b)[Math.floor(ratios.length / 2)] ?? Number.NaN,
		postgres: versions?.version ?? "",
		nats: nats?.version ?? "",
		natsSyncAlways: nats?.syncAlways ?? false,
		node: process.version,
		synchronousCommit: versions?.sync ?? "",
	};
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/drain.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	writeReport();
	process.stdout.write(`drain / copy = ${result.medianRatio.toFixed(2)} (median of ${RUNS})\n`);
}

async function emptyDatabase(adminUrl: string, name: string): Promise<string> {
	await query(adminUrl, `CREATE DATABASE ${name}`);
	const url = adminUrl.replace(/\/postgres$/, `/${name}`);
	await migrate({ databaseUrl: url, secret: SECRET });
	await query(url, "SELECT audit.ensure_partition(now())");
	return url;
}

async function drain(databaseUrl: string, run: number) {
	const nats = await startNats({ dataDir: join(folder, `nats_${run}`) });
	if ("unavailable" in nats) throw new Error(nats.unavailable);
	try {
		const env = { DATABASE_URL: databaseUrl, NATS_URL: nats.url, AUDIT_SECRET: SECRET, HTTP_PORT: "0", GRPC_PORT: "0" };
		const config = loadConfig({ ...env, AUDIT_AUTO_CREATE_TENANTS: "true" });
		const logger = pino({ level: "error" }, pino.destination(2));
		// The first start makes the stream; then it is filled while nobody drains it.
		await (await startWhenUp(config, logger)).close();
		await fill(nats.url);
		const server = await startServer(config, logger);
		await untilStored(databaseUrl, EVENTS);
		await server.close();
		const [timing] = await query<{ events: number; seconds: number }>(
			databaseUrl,
			`SELECT sum(n) FILTER (WHERE batch_no > first)::float AS events,
			        extract(epoch FROM max(committed_at) - min(committed_at) FILTER (WHERE batch_no = first))::float AS seconds
			 FROM audit.manifests, (SELECT min(batch_no) AS first FROM audit.manifests WHERE n > 1) f`,
		);
		const verification = await verifyTrail({ databaseUrl, secret: SECRET });
		if (!verification.ok || verification.events !== EVENTS + TENANTS) {
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

async function fill(natsUrl: string): Promise<void> {
	const nc = await connectNats({ servers: natsUrl });
	const js = nc.jetstream();
	const window: Promise<unknown>[] = [];
	for (let i = 0; i < EVENTS; i += 1) {
		window.push(js.publish("audit.events", toBinary(EventSchema, anEvent(i)), { timeout: 60_000 }));
		if (window.length === 500) await Promise.all(window.splice(0));
	}
	await Promise.all(window);
	await nc.close();
}

/** The frozen workload: the example event of the README with its change set, 100 tenants, no caller id. */
function anEvent(i: number) {
	return create(EventSchema, {
		tenantId: `tenant-${i % TENANTS}`,
		action: "user.login",
		category: Category.AUTH,
		severity: Severity.INFO,
		actor: { type: ActorType.USER, id: `user-${(i * 7919) % 10_000}`, displayName: "Jane Doe" },
		primaryResource: { type: "user", id: `user-${(i * 104_729) % 10_000}` },
		description: "Successful portal login",
		metadata: { ip: "192.0.2.10" },
		changes: {
			oldValue: { role: "editor", active: true },
			newValue: { role: "admin", active: true },
			changedFields: ["role"],
		},
	});
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

async function unload(databaseUrl: string, file: string): Promise<void> {
	const client = new pg.Client({ connectionString: databaseUrl });
	await client.connect();
	const sql = `COPY (SELECT ${Object.keys(COPY_COLUMNS).join(", ")} FROM audit.events ORDER BY batch_id, ord) TO STDOUT`;
	await pipeline(client.query(copyTo(sql)), createWriteStream(file));
	await client.end();
}

/** @returns rows per second, COMMIT included */
async function copyIn(databaseUrl: string, file: string): Promise<number> {
	const client = new pg.Client({ connectionString: databaseUrl });
	await client.connect();
	const stream = client.query(copyFrom(`COPY audit.events (${Object.keys(COPY_COLUMNS).join(", ")}) FROM STDIN`));
	const start = performance.now();
	await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), stream);
	const seconds = (performance.now() - start) / 1000;
	await client.end();
	return stream.rowCount / seconds;
}

async function query<T extends pg.QueryResultRow>(databaseUrl: string, sql: string): Promise<T[]> {
	const client = new pg.Client({ connectionString: databaseUrl });
	await client.connect();
	try {
		return (await client.query<T>(sql)).rows;
	} finally {
		await client.end();
	}
}
