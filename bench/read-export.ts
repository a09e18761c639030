import { execFile } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { parseArgs, promisify } from "node:util";
import { type AuditClient, createAuditClient, ExportFormat } from "../src/client/index.ts";
import { Closer } from "../src/closer.ts";
import { DATA_FOLDER, openReadDatabase } from "./read-data.ts";
import { LARGEST } from "./read-events.ts";
import { writeReport } from "./report.ts";
import { openDatabaseAt, programOfImage, startService } from "./service.ts";

/**
 * How fast is an export, against psql's \copy of a select of the same cells, and what memory does it take?
 *
 *     node bench/read-export.ts [EVENTS] [--rounds N] [--data FOLDER]        (default 10,000,000 events, 3 rounds)
 *
 * All events of the tenant that has half of the log, newest first, as CSV, into a file each; in turns the first. The service is
 * a process of its own, started as the image starts it; the client that writes the file is this one. The figure is the ratio of the medians; the memory is the
 * most the service's process ever had resident (VmHWM), all rounds together.
 */

export interface ExportResult {
	command: string;
	rowsPerRound: number;
	rounds: number;
	/** Medians. */
	exportSeconds: number;
	copySeconds: number;
	/** The rate of the export through that of \copy. */
	ratio: number;
	exportBytes: number;
	copyBytes: number;
	/** The longest of all rounds. */
	firstByteMs: number;
	/** Of the service before it was called, and at most. */
	restingBytes: number;
	peakBytes: number;
	postgres: string;
	node: string;
}

/** The usual columns of an export (src/export/columns.ts), taken from the same text. `masked_units` has nothing to show here. */
const CELLS = `id, tenant_id, ${["occurred_at", "recorded_at"]
	.map((name) => `to_char(${name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`)
	.join(", ")}, action, u_facts::json ->> 'category', u_facts::json ->> 'severity', u_facts::json ->> 'outcome',
	u_reason::json ->> 'outcome_reason', source, u_actor::json -> 'actor' ->> 'type', actor_id,
	u_actor::json -> 'actor' ->> 'display_name', actor_email, u_actor::json -> 'on_behalf_of', resource_type, resource_id,
	u_resources::json -> 'primary_resource' ->> 'display_name', u_resources::json -> 'primary_resource' ->> 'role',
	u_resources::json -> 'related_resources', u_context::json ->> 'ip_address', u_context::json ->> 'user_agent', request_id,
	trace_id, u_context::json ->> 'session_id', u_context::json ->> 'location', u_changes, u_description::json #>> '{}',
	u_reason::json ->> 'reason', u_metadata, u_facts::json ->> 'schema_version', u_facts::json ->> 'retention_class',
	u_facts::json -> 'recorded_by' ->> 'door', u_facts::json -> 'recorded_by' ->> 'key_id', encode(leaf_hash, 'hex'),
	NULL`.replace(/\s+/g, " ");

/** An export leaves out what tells of reads. */
const NO_READS = "action NOT IN ('audit.read', 'audit.read.summary')";

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { data: { type: "string", default: DATA_FOLDER }, rounds: { type: "string", default: "3" } },
});
const closer = new Closer();
try {
	await bench(Number(positionals[0] ?? 10_000_000), Number(values.rounds), values.data);
} finally {
	await closer.close();
}

async function bench(size: number, rounds: number, data: string): Promise<void> {
	const { url } = await openReadDatabase(closer, size, data);
	const database = await openDatabaseAt(closer, url);
	const { text: key } = await database.makeKey("operator", LARGEST);
	const service = await startService(closer, { DATABASE_URL: url }, programOfImage());
	const client = createAuditClient({ url: service.url, key, timeoutMs: 3_600_000 });
	const file = closer.add(join(data, `export-${process.pid}.csv`), (path) => rmSync(path, { force: true }));
	const restingBytes = residentBytes(service.pid, "VmRSS");
	const exports: Exported[] = [];
	const copies: Copied[] = [];
	for (let round = 0; round < rounds; round += 1) {
		const ours = async () => void exports.push(await exportTo(client, file));
		const psqls = async () => void copies.push(await copyTo(url, file));
		for (const run of round % 2 === 0 ? [ours, psqls] : [psqls, ours]) await run();
		process.stderr.write(
			`round ${round + 1}: export ${exports.at(-1)?.seconds.toFixed(1)} s, \\copy ${copies.at(-1)?.seconds.toFixed(1)} s\n`,
		);
	}
	const peakBytes = residentBytes(service.pid, "VmHWM");
	const rows = new Set([...exports, ...copies].map((each) => each.rows));
	if (rows.size !== 1) throw new Error(`not the same rows: ${[...rows].join(", ")}`);
	const [exportSeconds, copySeconds] = [exports, copies].map((all) => median(all.map(({ seconds }) => seconds)));
	const result: ExportResult = {
		command: `node bench/read-export.ts ${size} --rounds ${rounds}`,
		rowsPerRound: exports[0]?.rows ?? 0,
		rounds,
		exportSeconds: exportSeconds ?? Number.NaN,
		copySeconds: copySeconds ?? Number.NaN,
		ratio: (copySeconds ?? Number.NaN) / (exportSeconds ?? Number.NaN),
		exportBytes: exports[0]?.bytes ?? 0,
		copyBytes: copies[0]?.bytes ?? 0,
		firstByteMs: Math.max(...exports.map(({ firstByteMs }) => firstByteMs)),
		restingBytes,
		peakBytes,
		postgres: database.version,
		node: process.version,
	};
	await service.stop();
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/read-export.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	writeReport();
	process.stdout.write(
		`export / \\copy = ${result.ratio.toFixed(2)}, first byte ${Math.round(result.firstByteMs)} ms, at most ${Math.round(peakBytes / 1e6)} MB resident\n`,
	);
}

interface Copied {
	readonly rows: number;
	readonly bytes: number;
	readonly seconds: number;
}
interface Exported extends Copied {
	readonly firstByteMs: number;
}

async function exportTo(client: AuditClient, path: string): Promise<Exported> {
	const start = performance.now();
	const out = createWriteStream(path);
	let firstByteMs: number | undefined;
	let manifest: { events: bigint; bytes: bigint } | undefined;
	for await (const { part } of client.export({ query: { tenantId: LARGEST }, format: ExportFormat.CSV })) {
		if (part.case === "manifest") manifest = part.value;
		if (part.case !== "chunk") continue;
		firstByteMs ??= performance.now() - start;
		if (!out.write(part.value.data)) await once(out, "drain");
	}
	out.end();
	await finished(out);
	const seconds = (performance.now() - start) / 1_000;
	if (!manifest || statSync(path).size !== Number(manifest.bytes)) throw new Error("the export is not whole");
	return {
		rows: Number(manifest.events),
		bytes: Number(manifest.bytes),
		seconds,
		firstByteMs: firstByteMs ?? Number.NaN,
	};
}

async function copyTo(url: string, path: string): Promise<Copied> {
	const select = `SELECT ${CELLS} FROM audit.events WHERE tenant_id = '${LARGEST}' AND ${NO_READS} ORDER BY occurred_at DESC, id DESC`;
	const start = performance.now();
	const copy = `\\copy (${select}) TO '${path}' WITH (FORMAT csv, HEADER)`;
	// The password not as an argument.
	const { password, ...place } = splitUrl(url);
	const { stdout } = await promisify(execFile)("psql", ["-X", "-d", place.url, "-c", copy], {
		env: { ...process.env, PGPASSWORD: password },
	});
	const seconds = (performance.now() - start) / 1_000;
	return { rows: Number(/COPY (\d+)/.exec(stdout)?.[1]), bytes: statSync(path).size, seconds };
}

function splitUrl(text: string): { url: string; password: string } {
	const url = new URL(text);
	const { password } = url;
	url.password = "";
	return { url: url.href, password };
}

/** Linux's account of a process: VmRSS now, VmHWM at most since it began. */
function residentBytes(pid: number, name: "VmRSS" | "VmHWM"): number {
	const status = readFileSync(`/proc/${pid}/status`, "utf8");
	return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1_024;
}

function median(numbers: readonly number[]): number {
	return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}
