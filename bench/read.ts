import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createAuditClient } from "../src/client/index.ts";
import { Closer } from "../src/closer.ts";
import { startNats } from "../src/dev/nats.ts";
import { BareReader } from "./bare-reader.ts";
import { BlockCounter } from "./blocks.ts";
import { type CountedCall, countBlocks, PAGES_BEFORE } from "./read-blocks.ts";
import { DATA_FOLDER, openReadDatabase } from "./read-data.ts";
import { LARGEST } from "./read-events.ts";
import {
	type Compared,
	FULL,
	type GrowthOfCall,
	type Measured,
	QUICK,
	type RareTimes,
	timeFirstPage,
	timeGrowth,
	timeLatePage,
	timeRare,
} from "./read-times.ts";
import { writeReport } from "./report.ts";
import { readSection } from "./report-read.ts";
import { type BenchDatabase, openDatabaseAt, query, startService } from "./service.ts";
import { startDrain } from "./steady-drain.ts";

/**
 * What does it cost to read, and does it cost more in a log ten times as long?
 *
 *     node bench/read.ts [SMALLER LARGER] [--data FOLDER] [--quick]        (default 1,000,000 and 10,000,000 events)
 *
 * Two databases of 24 months (read-data.ts, which keeps them) and a service on each, in a process of its own. Blocks per
 * call, and times in alternating calls to what they are compared with: first at rest, then while 1,000 events a second come
 * in by NATS. Measured on copies, so that the kept databases stay as they were made; the smaller one is verified at the end.
 * `--quick` measures too little to be believed, and publishes nothing.
 */

const SIZES = [1_000_000, 10_000_000];
const PHASES = ["at rest", "draining"] as const;
export type Phase = (typeof PHASES)[number];

export interface PhaseResult {
	readonly blocks: readonly CountedCall[];
	readonly firstPage: Compared;
	readonly latePage: Compared;
	readonly rare: RareTimes;
}

export interface ReadResult {
	command: string;
	pagesBefore: number;
	sizes: {
		readonly events: number;
		readonly bytes: { readonly heap: number; readonly indexes: number; readonly byIndex: Record<string, number> };
		readonly phases: Record<Phase, PhaseResult>;
		/** Stored from NATS in a second, in the phase of that name. */
		readonly drainedPerSecond: number;
	}[];
	growth: Record<Phase, readonly GrowthOfCall[]>;
	postgres: string;
	node: string;
}

interface Target extends Measured {
	readonly size: number;
	readonly url: string;
	readonly natsUrl: string;
	readonly counter: BlockCounter;
	readonly database: BenchDatabase;
	stop(): Promise<void>;
}

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { data: { type: "string", default: DATA_FOLDER }, quick: { type: "boolean", default: false } },
});
const effort = values.quick ? QUICK : FULL;
const closer = new Closer();
try {
	await bench(positionals.length === 2 ? positionals.map(Number) : SIZES, values.data);
} finally {
	await closer.close();
}

async function bench(sizes: readonly number[], data: string): Promise<void> {
	const scratch = closer.add(join(data, `run-${process.pid}`), (path) =>
		rmSync(path, { recursive: true, force: true }),
	);
	mkdirSync(scratch);
	const targets: Target[] = [];
	for (const size of sizes) targets.push(await openTarget(size, data, scratch));
	const bytes = await Promise.all(targets.map(bytesOf));
	const atRest = await measure("at rest", targets);
	const { stored, ...draining } = await measureDraining(targets);
	for (const target of targets) await target.stop();
	await targets[0]?.database.verify();
	const result: ReadResult = {
		command: `node bench/read.ts ${sizes.join(" ")}`,
		pagesBefore: PAGES_BEFORE,
		sizes: targets.map(({ size }, n) => ({
			events: size,
			bytes: bytes[n] as ReadResult["sizes"][number]["bytes"],
			phases: { "at rest": atRest.phases[n] as PhaseResult, draining: draining.phases[n] as PhaseResult },
			drainedPerSecond: stored[n] ?? 0,
		})),
		growth: { "at rest": atRest.growth, draining: draining.growth },
		postgres: targets[0]?.database.version ?? "",
		node: process.version,
	};
	if (values.quick) {
		process.stdout.write(readSection(result));
		return;
	}
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/read.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	writeReport();
}

/** A copy of the kept database, which is made and migrated first, and a service on it. */
async function openTarget(size: number, data: string, scratch: string): Promise<Target> {
	const kept = new Closer();
	await openReadDatabase(kept, size, data);
	await kept.close();
	execFileSync("cp", ["-a", "--reflink=auto", join(data, String(size)), scratch]);
	const { url, events } = await openReadDatabase(closer, size, scratch);
	const nats = await startNats({ dataDir: join(scratch, `nats-${size}`) });
	if ("unavailable" in nats) throw new Error(nats.unavailable);
	closer.add(nats, (n) => n.stop());
	const database = await openDatabaseAt(closer, url);
	const key = (await database.makeKey("operator", LARGEST)).text;
	const service = await startService(closer, { DATABASE_URL: url, NATS_URL: nats.url });
	return {
		size,
		url,
		events,
		database,
		natsUrl: nats.url,
		client: createAuditClient({ url: service.url, key }),
		bare: await BareReader.open(closer, url),
		counter: await BlockCounter.open(closer, url),
		stop: () => service.stop(),
	};
}

async function measure(phase: Phase, targets: readonly Target[]) {
	const phases: PhaseResult[] = [];
	for (const target of targets) {
		const blocks = await countBlocks(target.client, target.counter, target.events);
		const firstPage = await timeFirstPage(target, effort);
		const latePage = await timeLatePage(target, PAGES_BEFORE, effort);
		const rare = await timeRare(target, effort);
		phases.push({ blocks, firstPage, latePage, rare });
		tell(`${target.size} events, ${phase}`, { blocks, firstPage, latePage, rare });
	}
	const [small, large] = targets as [Target, Target];
	const growth = await timeGrowth(large, small, effort);
	process.stderr.write(
		`${phase}: ${growth.filter(({ ratio }) => ratio > 1.5).length} of ${growth.length} grow by more than half\n`,
	);
	return { phases, growth };
}

async function measureDraining(targets: readonly Target[]) {
	const before = await Promise.all(targets.map(eventsStored));
	const start = performance.now();
	const drains = await Promise.all(targets.map(({ natsUrl }) => startDrain(closer, natsUrl)));
	const measured = await measure("draining", targets);
	await Promise.all(drains.map((drain) => drain.stop()));
	const seconds = (performance.now() - start) / 1_000;
	const after = await Promise.all(targets.map(eventsStored));
	return { ...measured, stored: after.map((events, n) => (events - (before[n] ?? 0)) / seconds) };
}

function tell(what: string, { blocks, firstPage, latePage, rare }: PhaseResult): void {
	const tooMany = blocks.filter((call) => call.blocks.reading > 1_000);
	const ratio = ({ medianMs, againstMs, ...rest }: Compared) =>
		`${medianMs.toFixed(1)} / ${againstMs.toFixed(1)} ms = ${rest.ratio.toFixed(2)}`;
	process.stderr.write(
		`${what}: ${tooMany.length} of ${blocks.length} calls touch more than 1,000 blocks; page 1 ${ratio(firstPage)}; late page ${ratio(latePage)}; ` +
			`rare p99 ${rare.p99Ms.toFixed(1)} ms of ${rare.calls}\n`,
	);
}

async function bytesOf({ url }: Target) {
	const sizes = await query<{ name: string; bytes: string }>(
		url,
		`SELECT 'heap' AS name, sum(pg_table_size(inhrelid)) AS bytes FROM pg_inherits WHERE inhparent = 'audit.events'::regclass
		 UNION ALL
		 SELECT regexp_replace(c.relname, '^events_\\d+_\\d+_', ''), sum(pg_relation_size(c.oid))
		 FROM pg_inherits i JOIN pg_index x ON x.indrelid = i.inhrelid JOIN pg_class c ON c.oid = x.indexrelid
		 WHERE i.inhparent = 'audit.events'::regclass GROUP BY 1`,
	);
	const { heap = 0, ...byIndex } = Object.fromEntries(sizes.map(({ name, bytes }) => [name, Number(bytes)]));
	return { heap, byIndex, indexes: Object.values(byIndex).reduce((sum, bytes) => sum + bytes, 0) };
}

async function eventsStored({ url }: Target): Promise<number> {
	const [row] = await query<{ n: string }>(url, "SELECT sum(n) AS n FROM audit.manifests");
	return Number(row?.n);
}
