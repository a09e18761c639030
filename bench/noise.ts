import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { formatApiKey, hashSecret, newApiKey } from "../src/auth/api-keys.ts";
import { insertKey } from "../src/auth/key-changes.ts";
import { deriveKeys } from "../src/auth/secret.ts";
import { createAuditClient } from "../src/client/index.ts";
import { Closer } from "../src/closer.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import type { TenantId } from "../src/event/event.ts";
import { migrate } from "../src/storage/migrate.ts";
import { writeReport } from "./report.ts";

/**
 * Does one noisy tenant slow another? A quiet tenant's writes, one after the other, alone and beside a tenant that sends
 * batches without a pause: with a limit for each tenant, heeding its refusals or not, and without a limit.
 *
 *     node bench/noise.ts [ROUNDS]        (default 5)
 *
 * Callers and services are processes of their own. Each round has every case once; the figure is the median of the rounds' ratios of
 * the quiet tenant's median latencies.
 */

const SECRET = "bench-bench-bench-bench-bench-bench";
const EVENTS_PER_SECOND = 1_000;
const BATCH = 500;
const NOISY_AT_ONCE = 4;
const CALLS = 50;
const CASES = ["alone", "heeding", "unheeding", "unlimited"] as const;
type Case = (typeof CASES)[number];

export interface NoiseResult {
	command: string;
	rounds: number;
	callsPerRound: number;
	eventsPerSecond: number;
	noise: { batch: number; atOnce: number };
	medianMs: Record<Case, number>;
	medianRatio: Record<Exclude<Case, "alone">, number>;
	node: string;
	postgres: string;
}

const closer = new Closer();
const [first, url = "", key = "", manners = ""] = process.argv.slice(2);
try {
	if (first === "flood") await flood();
	else await bench(Number(first ?? 5));
} finally {
	await closer.close();
}

/** Until its parent closes the pipe. */
async function flood(): Promise<void> {
	const events = Array.from({ length: BATCH }, () => ({ action: "noise.made", actor: { id: "noisy" } }));
	const request = {
		method: "POST",
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
		body: JSON.stringify({ events }),
	};
	let going = true;
	process.stdin.resume().once("end", () => (going = false));
	const work = async () => {
		while (going) {
			const response = await fetch(`${url}/v1/audit/events:batch`, request);
			await response.arrayBuffer();
			const seconds = Number(response.headers.get("retry-after") ?? 0);
			if (manners === "heeding") await sleep(seconds * 1_000);
		}
	};
	const done = Promise.all(Array.from({ length: NOISY_AT_ONCE }, work));
	process.stdout.write("flooding\n");
	await done;
}

async function bench(rounds: number): Promise<void> {
	const folder = closer.add(mkdtempSync(join(tmpdir(), "auditlog-bench-")), (path) =>
		rmSync(path, { recursive: true, force: true }),
	);
	const postgres = closer.add(await startPostgres({ dataDir: join(folder, "postgres") }), (p) => p.stop());
	await migrate({ databaseUrl: postgres.url, secret: SECRET });
	const admin = new pg.Client({ connectionString: postgres.url });
	await admin.connect();
	const keys = { quiet: await makeKey(admin, "quiet"), noisy: await makeKey(admin, "noisy") };
	const { rows } = await admin.query<{ server_version: string }>("SHOW server_version");
	await admin.end();
	const unlimited = await serve(postgres.url, {});
	const limited = await serve(postgres.url, { AUDIT_TENANT_EVENTS_PER_SECOND: String(EVENTS_PER_SECOND) });
	const latencies: Record<Case, number[]> = { alone: [], heeding: [], unheeding: [], unlimited: [] };
	// The first round is for warming up.
	for (let round = -1; round < rounds; round += 1) {
		for (const kind of round % 2 ? CASES : CASES.toReversed()) {
			const service = kind === "heeding" || kind === "unheeding" ? limited : unlimited;
			const noise =
				kind === "alone" ? undefined : await run([import.meta.filename, "flood", service, keys.noisy, kind]);
			const ms = await medianLatency(service, keys.quiet);
			if (noise) await stop(noise.child);
			if (round >= 0) latencies[kind].push(ms);
		}
	}
	const ratioOf = (kind: Case) => median(latencies[kind].map((ms, i) => ms / (latencies.alone[i] ?? Number.NaN)));
	const result: NoiseResult = {
		command: `node bench/noise.ts ${rounds}`,
		rounds,
		callsPerRound: CALLS,
		eventsPerSecond: EVENTS_PER_SECOND,
		noise: { batch: BATCH, atOnce: NOISY_AT_ONCE },
		medianMs: {
			alone: median(latencies.alone),
			heeding: median(latencies.heeding),
			unheeding: median(latencies.unheeding),
			unlimited: median(latencies.unlimited),
		},
		medianRatio: {
			heeding: ratioOf("heeding"),
			unheeding: ratioOf("unheeding"),
			unlimited: ratioOf("unlimited"),
		},
		node: process.version,
		postgres: rows[0]?.server_version ?? "",
	};
	process.stdout.write(`${JSON.stringify(result)}\n`);
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/noise.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	writeReport();
}

async function makeKey(admin: pg.Client, tenant: string): Promise<string> {
	const made = newApiKey();
	const spec = { name: tenant, role: "writer", tenants: new Set([tenant as TenantId]), by: "bench" } as const;
	const rest = { id: made.id, maskedUnits: [], expiresAt: undefined };
	await insertKey(admin, hashSecret(deriveKeys(SECRET), made), { ...spec, ...rest });
	return formatApiKey(made);
}

async function serve(databaseUrl: string, settings: Readonly<Record<string, string>>): Promise<string> {
	const env = {
		...process.env,
		...settings,
		DATABASE_URL: databaseUrl,
		AUDIT_SECRET: SECRET,
		AUDIT_AUTO_CREATE_TENANTS: "true",
		HTTP_PORT: "0",
		GRPC_PORT: "0",
	};
	const { line } = await run([join(import.meta.dirname, "../src/main.ts"), "serve"], env);
	return (JSON.parse(line) as { http_url: string }).http_url;
}

async function run(args: readonly string[], env = process.env): Promise<{ child: ChildProcess; line: string }> {
	const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"], env });
	closer.add(child, () => child.kill("SIGKILL"));
	const lines = createInterface(child.stdout);
	const [line] = (await once(lines, "line")) as [string];
	return { child, line };
}

async function stop(child: ChildProcess): Promise<void> {
	const exited = once(child, "exit");
	child.stdin?.end();
	await exited;
}

async function medianLatency(service: string, apiKey: string): Promise<number> {
	const client = createAuditClient({ url: service, key: apiKey });
	const event = { action: "user.login", actor: { id: "user-1", displayName: "Jane Doe" } };
	const times: number[] = [];
	for (let i = 0; i < CALLS; i += 1) {
		const start = performance.now();
		await client.writeEvent({ event });
		times.push(performance.now() - start);
	}
	return median(times);
}

function median(numbers: readonly number[]): number {
	return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}
