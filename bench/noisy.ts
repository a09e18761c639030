import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { Closer } from "../src/closer.ts";
import { AuditService } from "../src/gen/audit/v1/audit_service_pb.ts";
import { writeReport } from "./report.ts";
import { startDatabase, startService } from "./service.ts";

/**
 * How much longer do one tenant's calls take while another tenant sends ten times what it may, without limits and with?
 *
 *     node bench/noisy.ts [ROUNDS]        (default 3)
 *
 * Two services, each in a process of its own, on one database: one with AUDIT_TENANT_EVENTS_PER_SECOND, one without. The
 * quiet tenant writes and searches in turn at a steady pace: alone, beside a noisy one that sends batches, and beside one
 * that sends as many events one by one. The noisy one is a process of its own, and heeds no refusal. The figures are the
 * medians of the rounds, and of the rounds' ratios to being alone. Ends with a full verification.
 */

const CALLS = 100;
/** The quiet tenant is well below the limit. */
const EVERY_MS = 20;
const LIMIT = 200;
const NOISE = 10 * LIMIT;
const NOISES = { batches: 50, singles: 1 } as const;
const IN_FLIGHT = 64;
const MODES = ["off", "on"] as const;
const QUIET_CALLS = ["write", "query"] as const;

type Mode = (typeof MODES)[number];
export type Noise = keyof typeof NOISES;
export type QuietCall = (typeof QUIET_CALLS)[number];
type Percentiles = Record<QuietCall, { p50: number; p99: number }>;

interface Beside {
	/** Milliseconds. */
	readonly beside: Percentiles;
	/** To being alone. */
	readonly ratio: Percentiles;
	readonly sentPerSecond: number;
	readonly storedPerSecond: number;
}

export interface NoisyResult {
	command: string;
	rounds: number;
	callsPerRound: number;
	limitEventsPerSecond: number;
	batch: number;
	/** By whether there are limits. */
	modes: Record<Mode, { alone: Percentiles } & Record<Noise, Beside>>;
	postgres: string;
	node: string;
}

type Round = { alone: Percentiles } & Record<Noise, Beside>;
interface Service {
	readonly url: string;
	readonly quiet: string;
	readonly noisy: string;
}

const [first, url = "", key = "", noise = ""] = process.argv.slice(2);
if (first === "hammer") await hammer(url, key, NOISES[noise as Noise]);
else await bench(Number(first ?? 3));

async function bench(rounds: number): Promise<void> {
	const closer = new Closer();
	try {
		const database = await startDatabase(closer);
		const quiet = (await database.makeKey("operator", "quiet")).text;
		const noisy = (await database.makeKey("operator", "noisy")).text;
		const limits = { off: {}, on: { AUDIT_TENANT_EVENTS_PER_SECOND: String(LIMIT) } };
		const started = {
			off: await startService(closer, { DATABASE_URL: database.url, ...limits.off }),
			on: await startService(closer, { DATABASE_URL: database.url, ...limits.on }),
		};
		const measured: Record<Mode, Round[]> = { off: [], on: [] };
		// The first round is for warming up.
		for (let round = -1; round < rounds; round += 1) {
			for (const mode of round % 2 ? MODES : MODES.toReversed()) {
				const result = await measureRound({ url: started[mode].url, quiet, noisy });
				if (round >= 0) measured[mode].push(result);
			}
		}
		for (const service of Object.values(started)) await service.stop();
		await database.verify();
		write(rounds, { off: summary(measured.off), on: summary(measured.on) }, database.version);
	} finally {
		await closer.close();
	}
}

async function measureRound(service: Service): Promise<Round> {
	const alone = await measureQuiet(service);
	const batches = await measureBeside(service, "batches", alone);
	const singles = await measureBeside(service, "singles", alone);
	return { alone, batches, singles };
}

async function measureBeside(service: Service, kind: Noise, alone: Percentiles): Promise<Beside> {
	const child = spawn(process.execPath, [import.meta.filename, "hammer", service.url, service.noisy, kind], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	let so: Counts = { sent: 0, stored: 0 };
	const reader = createInterface(child.stdout).on("line", (line) => {
		so = JSON.parse(line) as Counts;
	});
	await once(reader, "line");
	// By then what it may send at once is used up, and both processes are warm.
	await sleep(1_500);
	const [before, start] = [so, performance.now()];
	const beside = await measureQuiet(service);
	const seconds = (performance.now() - start) / 1_000;
	const [sent, stored] = [so.sent - before.sent, so.stored - before.stored];
	child.kill();
	await once(child, "exit");
	// What it had under way ends before anything else is measured.
	await sleep(500);
	const ratio = percentilesOf((call, which) => beside[call][which] / alone[call][which]);
	return { beside, ratio, sentPerSecond: sent / seconds, storedPerSecond: stored / seconds };
}

async function measureQuiet({ url, quiet }: Service): Promise<Percentiles> {
	const client = clientOf(url, quiet);
	const millis: Record<QuietCall, number[]> = { write: [], query: [] };
	const timed = async (call: QuietCall, run: () => Promise<unknown>) => {
		const start = performance.now();
		await run();
		millis[call].push(performance.now() - start);
	};
	const start = performance.now();
	for (let i = 0; i < CALLS; i += 1) {
		await timed("write", () => client.writeEvent({ event: anEvent(i) }));
		await timed("query", () => client.query({ tenantId: "quiet", pageSize: 50 }));
		await sleep(Math.max(0, start + (i + 1) * EVERY_MS - performance.now()));
	}
	return percentilesOf((call, which) => percentile(millis[call], which === "p50" ? 0.5 : 0.99));
}

interface Counts {
	/** Events. */
	readonly sent: number;
	readonly stored: number;
}

/** Sends at a steady pace whatever it is answered, and says again and again how much. */
async function hammer(url: string, key: string, batch: number): Promise<never> {
	const client = clientOf(url, key);
	let [sent, stored, underWay] = [0, 0, 0];
	setInterval(() => process.stdout.write(`${JSON.stringify({ sent, stored })}\n`), 50);
	const start = performance.now();
	for (;;) {
		const due = ((performance.now() - start) / 1_000) * NOISE;
		// What could not be sent in time is given up in part: the pace is what is measured, no queue of this process.
		while (sent < due && underWay < IN_FLIGHT) {
			sent += batch;
			underWay += 1;
			void send(client, batch)
				.then(
					() => {
						stored += batch;
					},
					() => {},
				)
				.finally(() => {
					underWay -= 1;
				});
		}
		await sleep(2);
	}
}

function send(client: Client<typeof AuditService>, batch: number): Promise<unknown> {
	if (batch === 1) return client.writeEvent({ event: anEvent(0) });
	return client.batchWrite({ events: Array.from({ length: batch }, (_, i) => anEvent(i)) });
}

/** Not that of `src/client`: that one would heed refusals. */
function clientOf(baseUrl: string, key: string): Client<typeof AuditService> {
	return createClient(
		AuditService,
		createConnectTransport({
			baseUrl,
			httpVersion: "2",
			interceptors: [
				(next) => (request) => {
					request.header.set("authorization", `Bearer ${key}`);
					return next(request);
				},
			],
		}),
	);
}

function anEvent(i: number) {
	return { action: "user.login", actor: { id: `user-${i}` }, description: "Successful portal login" };
}

function summary(rounds: readonly Round[]): NoisyResult["modes"][Mode] {
	const median = (read: (round: Round) => number) => percentile(rounds.map(read), 0.5);
	const beside = (kind: Noise): Beside => ({
		beside: percentilesOf((call, which) => median((round) => round[kind].beside[call][which])),
		ratio: percentilesOf((call, which) => median((round) => round[kind].ratio[call][which])),
		sentPerSecond: median((round) => round[kind].sentPerSecond),
		storedPerSecond: median((round) => round[kind].storedPerSecond),
	});
	const alone = percentilesOf((call, which) => median((round) => round.alone[call][which]));
	return { alone, batches: beside("batches"), singles: beside("singles") };
}

function percentilesOf(read: (call: QuietCall, which: "p50" | "p99") => number): Percentiles {
	const of = (call: QuietCall) => ({ p50: read(call, "p50"), p99: read(call, "p99") });
	return { write: of("write"), query: of("query") };
}

function percentile(numbers: readonly number[], share: number): number {
	const sorted = numbers.toSorted((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function write(rounds: number, modes: NoisyResult["modes"], postgres: string): void {
	const result: NoisyResult = {
		command: `node bench/noisy.ts ${rounds}`,
		rounds,
		callsPerRound: CALLS,
		limitEventsPerSecond: LIMIT,
		batch: NOISES.batches,
		modes,
		postgres,
		node: process.version,
	};
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/noisy.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	for (const mode of MODES) {
		for (const kind of Object.keys(NOISES) as Noise[]) {
			const { ratio, sentPerSecond, storedPerSecond } = modes[mode][kind];
			const said = (call: QuietCall) => `${call} p50 ×${ratio[call].p50.toFixed(2)} p99 ×${ratio[call].p99.toFixed(2)}`;
			const [sent, stored] = [Math.round(sentPerSecond), Math.round(storedPerSecond)];
			process.stdout.write(
				`limits ${mode}, ${kind}: ${sent}/s sent, ${stored}/s stored; ${said("write")}, ${said("query")}\n`,
			);
		}
	}
	writeReport();
}
