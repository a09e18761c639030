import { createReadStream, createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { create } from "@bufbuild/protobuf";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { Closer } from "../src/closer.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import { ActorType, Category, EventSchema, Severity } from "../src/gen/audit/v1/event_pb.ts";
import { COPY_COLUMNS } from "../src/storage/copy.ts";
import { drain, emptyDatabase, TENANTS } from "./drain-run.ts";
import { writeReport } from "./report.ts";
import { query } from "./service.ts";

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
		const drained = await drain(source, join(folder, `nats_${run}`), { events: EVENTS, eventAt: anEvent });
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
