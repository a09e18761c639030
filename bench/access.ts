import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import pg from "pg";
import { pino } from "pino";
import { ApiKeyVerifier, findApiKeyIn } from "../src/auth/api-key-verifier.ts";
import { formatApiKey, hashSecret, newApiKey } from "../src/auth/api-keys.ts";
import { Authenticator } from "../src/auth/authenticator.ts";
import { insertKey } from "../src/auth/key-changes.ts";
import type { Principal } from "../src/auth/principal.ts";
import { deriveKeys } from "../src/auth/secret.ts";
import { type AuditClient, createAuditClient } from "../src/client/index.ts";
import { Closer } from "../src/closer.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import { Ingest } from "../src/ingest/ingest.ts";
import { LetterQuery } from "../src/query/dead-letters.ts";
import { Query } from "../src/query/query.ts";
import { ReadLog } from "../src/query/read-log.ts";
import { type ListenOptions, listen } from "../src/rpc/listen.ts";
import { Appender } from "../src/storage/append.ts";
import { openDatabase } from "../src/storage/db.ts";
import { migrate } from "../src/storage/migrate.ts";
import { Partitions } from "../src/storage/partitions.ts";
import { ServiceLog } from "../src/storage/service-log.ts";
import { Tenants } from "../src/storage/tenants.ts";
import { verifyTrail } from "../src/storage/verify.ts";
import { Telemetry } from "../src/telemetry.ts";
import { writeReport } from "./report.ts";

/**
 * What does it cost to know who calls, and to record who reads? `WriteEvent` and `Query` of the same service with the access
 * layer and without.
 *
 *     node bench/access.ts [ROUNDS]        (default 25)
 *
 * Two services, each in a process of its own, on one database. The one without takes every call for an operator's, looks up
 * no key and records no read; its handlers still ask `authorize`, which takes nanoseconds. Each round has the same calls for
 * both, one right after the other and in turns the first; the figure is the median of the rounds' ratios. Ends with a full
 * verification.
 */

const SECRET = "bench-bench-bench-bench-bench-bench";
const TENANT = "tenant";
const EVENTS = 5_000;
const AT_ONCE = 16;
const CALLS = 400;
const LAYERS = ["with", "without"] as const;
type Layer = (typeof LAYERS)[number];

/** What is called, and what of it is measured. */
const LOADS = {
	write: (client: AuditClient) => client.writeEvent({ event: anEvent() }),
	/** The first is recorded before its answer, all others are counted. */
	query: (client: AuditClient) => client.query({ tenantId: TENANT, actions: ["user.*"], pageSize: 50 }),
	/** Each with a filter of its own, so each is recorded before its answer: the most that it can cost. */
	firstQuery: (client: AuditClient) =>
		client.query({ tenantId: TENANT, actions: ["user.*", `none.${(firsts += 1)}`], pageSize: 50 }),
} satisfies Record<string, (client: AuditClient) => Promise<unknown>>;
type Load = keyof typeof LOADS;
let firsts = 0;

export interface AccessResult {
	command: string;
	rounds: number;
	callsPerRound: number;
	callsAtOnce: number;
	loads: Record<Load, { withPerSecond: number; withoutPerSecond: number; medianRatio: number }>;
	postgres: string;
	node: string;
}

const ANYBODY: Principal = {
	kind: "api_key",
	id: "anybody",
	keyId: "anybody",
	name: "anybody",
	roles: new Set(["operator"]),
	tenants: "all",
	maskedUnits: new Set(),
	expiresAt: undefined,
};

const closer = new Closer();
const [first, databaseUrl = ""] = process.argv.slice(2);
try {
	if (first === "with" || first === "without") await serve(first, databaseUrl);
	else await bench(Number(first ?? 25));
} finally {
	await closer.close();
}

/** One of the two services, as server.ts joins them: until its parent closes the pipe. */
async function serve(layer: Layer, url: string): Promise<void> {
	const keys = deriveKeys(SECRET);
	const logger = pino({ level: "error" }, pino.destination(2));
	const telemetry = new Telemetry();
	const db = closer.add(openDatabase({ databaseUrl: url, keys, logger }), (d) => d.close());
	const partitions = new Partitions(db);
	await partitions.ensureAhead(new Date());
	const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs, onAppended: () => {} };
	const log = new ServiceLog({ db, partitions, ...hashing });
	const tenants = new Tenants({ db, log });
	const appender = new Appender({ db, tenants, partitions, ...hashing, logger });
	const ingest = closer.add(
		new Ingest({
			append: (writes) => appender.append(writes),
			tenants,
			autoCreateTenants: true,
			idSecret: keys.eventIds,
			contentMacKey: keys.contentMacs,
			telemetry,
			logger,
		}),
		(i) => i.close(),
	);
	const access: Pick<ListenOptions, "authenticator" | "reads"> =
		layer === "with"
			? {
					authenticator: new Authenticator({ apiKeys: new ApiKeyVerifier(findApiKeyIn(db.keys), keys) }),
					reads: closer.add(new ReadLog({ log, logger }), (reads) => reads.close()),
				}
			: {
					authenticator: { authenticate: () => Promise.resolve(ANYBODY) } as unknown as Authenticator,
					reads: {
						recorded: (_reads, answer) => Promise.resolve(answer as never),
						recordedStream: (_read, messages) => Promise.resolve(messages as never),
					},
				};
	const nobody = () => Promise.reject(new Error("not part of this"));
	const doors = await listen({
		host: "127.0.0.1",
		httpPort: { number: 0, explicit: true },
		grpcPort: { number: 0, explicit: true },
		limits: { noticeMs: 0, drainMs: 500 },
		ingest,
		query: new Query({ db, pageTokenKey: keys.pageTokens }),
		exporter: { open: nobody },
		letters: new LetterQuery({ db, pageTokenKey: keys.pageTokens }),
		redriver: { redrive: nobody, discard: nobody },
		access: {
			keyChanges: { create: nobody, rotate: nobody, revoke: nobody },
			keyQuery: { has: nobody, list: nobody },
			tenants,
		},
		tenants,
		tenantList: { list: nobody },
		disabled: tenants.disabled,
		readiness: () => Promise.resolve({ ready: true, degraded: [] }),
		telemetry,
		logger,
		...access,
	});
	process.stdout.write(`${doors.httpUrl}\n`);
	await once(process.stdin.resume(), "end");
	await doors.close();
}

async function bench(rounds: number): Promise<void> {
	const folder = closer.add(mkdtempSync(join(tmpdir(), "auditlog-bench-")), (path) =>
		rmSync(path, { recursive: true, force: true }),
	);
	const postgres = closer.add(await startPostgres({ dataDir: join(folder, "postgres") }), (p) => p.stop());
	await migrate({ databaseUrl: postgres.url, secret: SECRET });
	const admin = new pg.Client({ connectionString: postgres.url });
	await admin.connect();
	const made = newApiKey();
	const spec = { name: "bench", role: "operator", tenants: "all", by: "bench" } as const;
	const rest = { id: made.id, maskedUnits: [], expiresAt: undefined };
	await insertKey(admin, hashSecret(deriveKeys(SECRET), made), { ...spec, ...rest });
	const key = formatApiKey(made);
	const { rows } = await admin.query<{ server_version: string }>("SHOW server_version");
	await admin.end();
	const services = { with: await start("with", postgres.url), without: await start("without", postgres.url) };
	const clients = {
		with: createAuditClient({ url: services.with.url, key }),
		without: createAuditClient({ url: services.without.url, key }),
	};
	for (let i = 0; i < EVENTS; i += 1_000) {
		await clients.with.batchWrite({ events: Array.from({ length: 1_000 }, anEvent) });
	}
	const loads = {} as AccessResult["loads"];
	for (const load of Object.keys(LOADS) as Load[]) loads[load] = await measure(load, clients, rounds);
	for (const { child } of Object.values(services)) await stop(child);
	const { ok } = await verifyTrail({ databaseUrl: postgres.url, secret: SECRET });
	if (!ok) throw new Error("the trail does not verify");
	const result: AccessResult = {
		command: `node bench/access.ts ${rounds}`,
		rounds,
		callsPerRound: CALLS,
		callsAtOnce: AT_ONCE,
		loads,
		postgres: rows[0]?.server_version ?? "",
		node: process.version,
	};
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/access.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	writeReport();
}

async function measure(load: Load, clients: Record<Layer, AuditClient>, rounds: number) {
	const rates = { with: [] as number[], without: [] as number[] };
	// The first two rounds are for warming up.
	for (let round = -2; round < rounds; round += 1) {
		for (const layer of round % 2 ? LAYERS : LAYERS.toReversed()) {
			const rate = await callsPerSecond(() => LOADS[load](clients[layer]));
			if (round >= 0) rates[layer].push(rate);
		}
	}
	const medianRatio = median(rates.with.map((rate, i) => rate / (rates.without[i] ?? Number.NaN)));
	const [withPerSecond, withoutPerSecond] = [median(rates.with), median(rates.without)];
	process.stdout.write(
		`${load}: ${Math.round(withPerSecond)}/s with, ${Math.round(withoutPerSecond)}/s without, ratio ${medianRatio.toFixed(2)}\n`,
	);
	return { withPerSecond, withoutPerSecond, medianRatio };
}

async function callsPerSecond(call: () => Promise<unknown>): Promise<number> {
	const start = performance.now();
	let left = CALLS;
	const work = async () => {
		while (left > 0) {
			left -= 1;
			await call();
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, work));
	return (CALLS / (performance.now() - start)) * 1_000;
}

async function start(layer: Layer, url: string): Promise<{ child: ChildProcess; url: string }> {
	const args = [import.meta.filename, layer, url];
	const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
	closer.add(child, () => child.kill("SIGKILL"));
	const [line] = (await once(createInterface(child.stdout), "line")) as [string];
	return { child, url: line };
}

async function stop(child: ChildProcess): Promise<void> {
	const exited = once(child, "exit");
	child.stdin?.end();
	await exited;
}

function anEvent() {
	return {
		tenantId: TENANT,
		action: "user.login",
		actor: { id: "user-1", displayName: "Jane Doe" },
		primaryResource: { type: "user", id: "user-1" },
		description: "Successful portal login",
		metadata: { ip: "192.0.2.10" },
	};
}

function median(numbers: readonly number[]): number {
	return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}
