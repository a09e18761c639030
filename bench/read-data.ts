import { spawn } from "node:child_process";
import type { KeyObject } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { pino } from "pino";
import { deriveKeys } from "../src/auth/secret.ts";
import { Closer } from "../src/closer.ts";
import { type Postgres, startPostgres } from "../src/dev/postgres.ts";
import { admit } from "../src/event/admit.ts";
import type { TenantId } from "../src/event/event.ts";
import { microsOf, rfc3339 } from "../src/event/time.ts";
import { formBatch, writeManifest } from "../src/storage/batch.ts";
import { copyRows } from "../src/storage/copy.ts";
import { type Database, openDatabase } from "../src/storage/db.ts";
import { migrate } from "../src/storage/migrate.ts";
import { Partitions } from "../src/storage/partitions.ts";
import { type EventRow, prepareRow } from "../src/storage/row.ts";
import { ServiceLog } from "../src/storage/service-log.ts";
import { Tenants } from "../src/storage/tenants.ts";
import { writeTransaction } from "../src/storage/transaction.ts";
import { verifyTrail } from "../src/storage/verify.ts";
import { COUNTING } from "./blocks.ts";
import { type EventSet, Events, MONTHS, TENANTS, tenantName } from "./read-events.ts";

/**
 * The databases that reading is measured with, kept between runs.
 *
 *     node bench/read-data.ts EVENTS [--data FOLDER] [--serve] [--verify]
 *
 * Makes the database of so many events if it is not there (10 million: 10 minutes with two cores to itself, 15 GB), by the
 * project's own code: admitted, hashed, stored by COPY with their manifests. `--serve` starts its PostgreSQL and prints its
 * URL until Ctrl-C; `--verify` proves it as `auditlog verify` does. It is migrated whenever it is opened.
 *
 * FOLDER is by default `auditlog-bench-data` in the machine's folder for temporary files. To throw a database away, remove
 * FOLDER/EVENTS; it is also made anew when its events end in another month than this one.
 */

export const SECRET = "bench-bench-bench-bench-bench-bench";
export const DATA_FOLDER = join(tmpdir(), "auditlog-bench-data");

/** Kept free on the disk beside what the database takes. */
const SPARE_BYTES = 15e9;
const BYTES_PER_EVENT = 2_000;
const WORKERS = 2;
/** As many events one transaction stores. */
const AT_ONCE = 2_500;

/** Until it is complete nothing has to survive a crash. */
const FILLING = {
	fsync: "off",
	synchronous_commit: "off",
	full_page_writes: "off",
	max_wal_size: "8GB",
	autovacuum: "off",
};

export interface ReadDatabase {
	/** Of the superuser. */
	readonly url: string;
	readonly events: Events;
	readonly postgres: Postgres;
}

/** Starts the PostgreSQL that has the set of so many events, which is made if it is not there. */
export async function openReadDatabase(closer: Closer, count: number, folder = DATA_FOLDER): Promise<ReadDatabase> {
	const home = join(folder, String(count));
	const set = readSet(join(home, "set.json")) ?? (await make(home, count));
	const start = () => startPostgres({ dataDir: join(home, "postgres"), settings: COUNTING });
	const postgres = closer.add(await start(), (p) => p.stop());
	await migrate({ databaseUrl: postgres.url, secret: SECRET });
	return { url: postgres.url, events: new Events(set), postgres };
}

/** Undefined: there is none, or it ends in another month and has no hot one. */
function readSet(file: string): EventSet | undefined {
	if (!existsSync(file)) return undefined;
	const { events, until } = JSON.parse(readFileSync(file, "utf8")) as { events: number; until: string };
	const month = (date: Date) => date.toISOString().slice(0, 7);
	return month(new Date(until)) === month(new Date()) ? { events, until: new Date(until) } : undefined;
}

/** Goes on with what was begun, if that was not ended by force. */
async function make(home: string, count: number): Promise<EventSet> {
	const begun = join(home, "begun.json");
	const set = readSet(begun) ?? { events: count, until: new Date() };
	if (!existsSync(begun) || existsSync(join(home, "postgres", "cluster", "postmaster.pid"))) {
		rmSync(home, { recursive: true, force: true });
		mkdirSync(home, { recursive: true });
		const { bavail, bsize } = statfsSync(home);
		if (bavail * bsize < count * BYTES_PER_EVENT + SPARE_BYTES)
			throw new Error(`${home}: the disk has too little room`);
	}
	writeFileSync(begun, JSON.stringify(set));
	const postgres = await startPostgres({ dataDir: join(home, "postgres"), settings: FILLING });
	try {
		const start = performance.now();
		await migrate({ databaseUrl: postgres.url, secret: SECRET });
		await fillDatabase(postgres.url, SECRET, set, { processes: WORKERS });
		process.stderr.write(`${count} events in ${Math.round((performance.now() - start) / 1000)} s\n`);
	} finally {
		await postgres.stop();
	}
	renameSync(begun, join(home, "set.json"));
	return set;
}

/** Fills a migrated database. @param processes how many to fill it with; 0: this one alone */
export async function fillDatabase(databaseUrl: string, secret: string, set: EventSet, { processes = 0 } = {}) {
	await makeTenants(databaseUrl, secret);
	if (processes === 0) await fillMonths(databaseUrl, secret, set, 0, MONTHS);
	const share = MONTHS / processes;
	await Promise.all(
		Array.from({ length: processes }, (_, n) =>
			fillApart({ databaseUrl, secret, ...set, first: Math.round(n * share), end: Math.round((n + 1) * share) }),
		),
	);
	const admin = new pg.Client({ connectionString: databaseUrl });
	await admin.connect();
	await admin.query("VACUUM (ANALYZE) audit.events, audit.vocabulary");
	await admin.query("ANALYZE audit.manifests; ANALYZE audit.tenants");
	await admin.query("CHECKPOINT");
	await admin.end();
}

interface Part {
	readonly databaseUrl: string;
	readonly secret: string;
	readonly events: number;
	readonly until: Date;
	readonly first: number;
	readonly end: number;
}

async function fillApart(part: Part): Promise<void> {
	const child = spawn(process.execPath, [import.meta.filename, "--part"], { stdio: ["pipe", "inherit", "inherit"] });
	// The URL has a password: not as an argument.
	child.stdin.end(JSON.stringify(part));
	const [code] = (await once(child, "exit")) as [number | null];
	if (code !== 0) throw new Error("a part could not be filled");
}

async function makeTenants(databaseUrl: string, secret: string): Promise<void> {
	await withStores(databaseUrl, secret, async ({ tenants }) => {
		for (let n = 0; n < TENANTS; n += 1) await tenants.ensure(tenantName(n) as TenantId, tenantName(n));
	});
}

/** All events of the months from `first` to before `end`. */
async function fillMonths(databaseUrl: string, secret: string, set: EventSet, first: number, end: number) {
	const events = new Events(set);
	const to = events.ofMonth(end - 1).to;
	await withStores(databaseUrl, secret, async ({ db, keys, partitions, tenants }) => {
		for (let n = 0; n < TENANTS; n += 1) await tenants.exists(tenantName(n) as TenantId);
		for (let from = events.ofMonth(first).from; from < to; from += AT_ONCE) {
			if (await isStored(db, events, from)) continue;
			const rows = Array.from({ length: Math.min(AT_ONCE, to - from) }, (_, n) => rowOf(events, from + n, keys));
			await partitions.ensureFor(rows);
			await store(db, rows, (row) => tenants.slotOf(row.event.tenantId), keys.manifests);
		}
	});
}

/** What one transaction stores is there, or nothing of it: its first event tells. */
async function isStored(db: Database, events: Events, number: number): Promise<boolean> {
	const { id, tenantId, occurredAt } = events.at(number).event;
	const { rowCount } = await db.writer.query(
		"SELECT FROM audit.events WHERE tenant_id = $1 AND occurred_at = $2 AND id = $3",
		[tenantId, occurredAt && rfc3339(microsOf(occurredAt)), id],
	);
	return rowCount === 1;
}

/**
 * One transaction and one manifest. The rows are stored in the order of their times, and not by tenant as a flush has them:
 * as if they had come one by one, which mixes the tenants' rows most.
 */
async function store(
	db: Database,
	rows: readonly EventRow[],
	slotOf: (row: EventRow) => bigint,
	manifestKey: KeyObject,
) {
	const batch = formBatch(rows, slotOf);
	const placed = new Map(batch.placed.map((each) => [each.row, each]));
	await writeTransaction(db, async (client) => {
		await copyRows(
			client,
			rows.flatMap((row) => placed.get(row) ?? []),
		);
		await writeManifest(client, batch, manifestKey);
	});
}

function rowOf(events: Events, number: number, keys: ReturnType<typeof deriveKeys>): EventRow {
	const { event, recordedAt } = events.at(number);
	const admission = { now: recordedAt, recordedBy: { door: "rpc", keyId: "bench" } } as const;
	const admitted = admit(event, { ...admission, boundTenant: undefined, idSecret: keys.eventIds });
	if (!admitted.ok) throw new Error(`event ${number} was refused: ${JSON.stringify(admitted.violations)}`);
	return prepareRow(admitted.event, keys.contentMacs);
}

async function withStores(databaseUrl: string, secret: string, use: (stores: Stores) => Promise<void>): Promise<void> {
	const keys = deriveKeys(secret);
	const db = openDatabase({ databaseUrl, keys, logger: pino({ level: "warn" }, pino.destination(2)) });
	try {
		const partitions = new Partitions(db);
		await partitions.ensureAhead(new Date());
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs, onAppended: () => {} };
		const tenants = new Tenants({ db, log: new ServiceLog({ db, partitions, ...hashing }) });
		await use({ db, keys, partitions, tenants });
	} finally {
		await db.close();
	}
}

interface Stores {
	readonly db: Database;
	readonly keys: ReturnType<typeof deriveKeys>;
	readonly partitions: Partitions;
	readonly tenants: Tenants;
}

async function main(): Promise<void> {
	const { values, positionals } = parseArgs({
		allowPositionals: true,
		options: {
			data: { type: "string", default: DATA_FOLDER },
			serve: { type: "boolean" },
			verify: { type: "boolean" },
			part: { type: "boolean" },
		},
	});
	if (values.part) {
		const part = JSON.parse(readFileSync(0, "utf8")) as Part;
		const set = { events: part.events, until: new Date(part.until) };
		return fillMonths(part.databaseUrl, part.secret, set, part.first, part.end);
	}
	const closer = new Closer();
	try {
		const { url } = await openReadDatabase(closer, Number(positionals[0] ?? 1_000_000), values.data);
		if (values.verify) {
			const { ok, events, problems } = await verifyTrail({ databaseUrl: url, secret: SECRET });
			process.stdout.write(
				`${ok ? "verified" : "NOT verified"}: ${events} events ${JSON.stringify(problems.slice(0, 3))}\n`,
			);
		}
		if (!values.serve) return;
		process.stdout.write(`${url}\n`);
		const alive = setInterval(() => {}, 60_000);
		await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
		clearInterval(alive);
	} finally {
		await closer.close();
	}
}

if (import.meta.main) {
	await main();
	process.exit();
}
