import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Closer } from "../src/closer.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import { drain, emptyDatabase } from "./drain-run.ts";
import { Events } from "./read-events.ts";
import { writeReport } from "./report.ts";
import { query } from "./service.ts";

/**
 * What do the indexes that searches use cost the drain of a full stream?
 *
 *     node bench/read-drain.ts INDEX… [--events N] [--rounds N]        (default 100,000 events, 5 rounds)
 *
 * INDEX is an index of `audit.events` as the migrations name it. Each round drains the same events, such as read.ts searches
 * among, into two new databases, in turns the first: with the indexes, and after DROP INDEX. Each trail is verified.
 */

export interface IndexedDrainResult {
	command: string;
	indexes: string[];
	events: number;
	withPerSecond: number[];
	withoutPerSecond: number[];
	ratios: number[];
	medianRatio: number;
	node: string;
}

const { values, positionals: indexes } = parseArgs({
	allowPositionals: true,
	options: { events: { type: "string", default: "100000" }, rounds: { type: "string", default: "5" } },
});
if (indexes.length === 0) throw new Error("name the indexes to drop");
const [count, rounds] = [Number(values.events), Number(values.rounds)];

const closer = new Closer();
try {
	const folder = closer.add(mkdtempSync(join(tmpdir(), "auditlog-bench-")), (path) =>
		rmSync(path, { recursive: true, force: true }),
	);
	const postgres = closer.add(await startPostgres({ dataDir: join(folder, "postgres") }), (p) => p.stop());
	const set = new Events({ events: count, until: new Date() });
	const rates = { with: [] as number[], without: [] as number[] };
	for (let round = 1; round <= rounds; round += 1) {
		for (const way of round % 2 ? (["with", "without"] as const) : (["without", "with"] as const)) {
			const name = `${way}_${round}`;
			const url = await emptyDatabase(postgres.url, name);
			if (way === "without") for (const index of indexes) await query(url, `DROP INDEX audit.${index}`);
			const nats = join(folder, `nats_${name}`);
			const { eventsPerSecond } = await drain(url, nats, { events: count, eventAt: (i) => set.newAt(i) });
			rates[way].push(eventsPerSecond);
			await query(postgres.url, `DROP DATABASE ${name} WITH (FORCE)`);
			rmSync(nats, { recursive: true, force: true });
		}
		const [indexed, bare] = [rates.with, rates.without].map((all) => Math.round(all.at(-1) ?? 0));
		process.stderr.write(`round ${round}: ${indexed}/s with, ${bare}/s without\n`);
	}
	const ratios = rates.with.map((rate, i) => rate / (rates.without[i] ?? Number.NaN));
	const result: IndexedDrainResult = {
		command: `node bench/read-drain.ts ${indexes.join(" ")} --events ${count} --rounds ${rounds}`,
		indexes,
		events: count,
		withPerSecond: rates.with,
		withoutPerSecond: rates.without,
		ratios,
		medianRatio: ratios.toSorted((a, b) => a - b)[ratios.length >> 1] ?? Number.NaN,
		node: process.version,
	};
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/read-drain.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	writeReport();
	process.stdout.write(`drain with / without = ${result.medianRatio.toFixed(2)} (median of ${rounds})\n`);
} finally {
	await closer.close();
}
