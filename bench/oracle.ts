import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { connect as connectNats } from "nats";
import { formatApiKey, newApiKey } from "../src/auth/api-keys.ts";
import { Closer } from "../src/closer.ts";
import { startNats } from "../src/dev/nats.ts";
import { AccessService } from "../src/gen/audit/v1/access_service_pb.ts";
import { AuditService } from "../src/gen/audit/v1/audit_service_pb.ts";
import { DeadLetterService } from "../src/gen/audit/v1/dead_letter_service_pb.ts";
import { TenantService } from "../src/gen/audit/v1/tenant_service_pb.ts";
import { writeReport } from "./report.ts";
import { type BenchDatabase, startDatabase, startService } from "./service.ts";

/**
 * Does the time of an answer tell whether a thing exists that the caller may not see? Calls that name what another tenant
 * has, against calls that name what nobody has; keys with a wrong secret, against keys that do not exist.
 *
 *     node bench/oracle.ts [SAMPLES]        (default 2000, of each)
 *
 * One after the other, in random order, each pair of answers compared: but for what was named they must be the same. The
 * service is a process of its own. The figure is the ratio of the medians.
 */

const OURS = "tenant-ours";
const THEIRS = "tenant-theirs";
const NOBODYS = "tenant-nobody";

/** What is there, and what is not; each given the number of the sample. */
type Pair = readonly [there: (i: number) => Promise<unknown>, notThere: (i: number) => Promise<unknown>];

export interface OracleResult {
	command: string;
	samples: number;
	calls: Record<string, { thereMs: number; notThereMs: number; ratio: number }>;
	postgres: string;
	node: string;
}

const samples = Number(process.argv[2] ?? 2_000);
const closer = new Closer();
try {
	await bench();
} finally {
	await closer.close();
}

async function bench(): Promise<void> {
	const database = await startDatabase(closer);
	const folder = closer.add(mkdtempSync(join(tmpdir(), "auditlog-bench-")), (path) =>
		rmSync(path, { recursive: true, force: true }),
	);
	const nats = await startNats({ dataDir: join(folder, "nats") });
	if ("unavailable" in nats) throw new Error(nats.unavailable);
	closer.add(nats, (n) => n.stop());
	const env = { DATABASE_URL: database.url, NATS_URL: nats.url };
	const service = await startService(closer, env);
	const calls: OracleResult["calls"] = {};
	const pairs = {
		...(await pairsOfThings(service.url, nats.url, database)),
		...(await pairsOfKeys(service.url, database)),
	};
	for (const [name, pair] of Object.entries(pairs)) {
		const { thereMs, notThereMs } = await measure(pair);
		calls[name] = { thereMs, notThereMs, ratio: thereMs / notThereMs };
		process.stdout.write(
			`${name}: ${thereMs.toFixed(2)} ms there, ${notThereMs.toFixed(2)} ms not, ratio ${(thereMs / notThereMs).toFixed(2)}\n`,
		);
	}
	await service.stop();
	await database.verify();
	const command = `node bench/oracle.ts ${samples}`;
	const result: OracleResult = { command, samples, calls, postgres: database.version, node: process.version };
	mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
	writeFileSync(join(import.meta.dirname, "results/oracle.json"), `${JSON.stringify(result, undefined, "\t")}\n`);
	writeReport();
}

async function pairsOfThings(url: string, natsUrl: string, database: BenchDatabase): Promise<Record<string, Pair>> {
	const their = await database.makeKey("operator", THEIRS);
	const ours = await database.makeKey("operator", OURS);
	const theirs = clientsOf(url, their.text);
	const event = { action: "user.login", actor: { id: "user-1" } };
	const { eventId } = await theirs.audit.writeEvent({ event });
	const { audit, letters, access, tenants } = clientsOf(url, ours.text);
	await audit.writeEvent({ event });
	const letterId = await makeLetter(natsUrl, theirs.letters);
	// Of the same moment, and of another place in the same message.
	const noEvent = eventId.slice(0, -12) + randomBytes(6).toString("hex");
	const noLetter = letterId.replace(/\d$/, "7");
	const noKey = newApiKey().id;
	return {
		"`GetEvent`, of a tenant by name": [
			() => audit.getEvent({ tenantId: THEIRS, id: eventId }),
			() => audit.getEvent({ tenantId: NOBODYS, id: eventId }),
		],
		"`GetEvent`, of the caller's tenant, by id": [
			() => audit.getEvent({ id: eventId }),
			() => audit.getEvent({ id: noEvent }),
		],
		"`Query`, of a tenant by name": [() => audit.query({ tenantId: THEIRS }), () => audit.query({ tenantId: NOBODYS })],
		"`GetDeadLetter`, by id": [
			() => letters.getDeadLetter({ id: letterId }),
			() => letters.getDeadLetter({ id: noLetter }),
		],
		"`RevokeApiKey`, by id": [
			() => access.revokeApiKey({ id: their.id, reason: "none" }),
			() => access.revokeApiKey({ id: noKey, reason: "none" }),
		],
		"`RenameTenant`, by id": [
			() => tenants.renameTenant({ id: THEIRS, name: "none" }),
			() => tenants.renameTenant({ id: NOBODYS, name: "none" }),
		],
	};
}

/** Nobody ever uses these keys with their own secrets. */
async function pairsOfKeys(url: string, database: BenchDatabase): Promise<Record<string, Pair>> {
	const [again, never] = [await database.makeKey("reader", THEIRS), newApiKey().id];
	const ids: string[] = [];
	for (let i = 0; i < samples; i += 1) ids.push((await database.makeKey("reader", THEIRS)).id);
	const use = keyUser(url);
	return {
		"a key seen a moment ago": [() => use(again.id), () => use(never)],
		"a key never seen before": [(i) => use(ids[i] ?? ""), () => use(newApiKey().id)],
		"a key somebody uses, against one never seen before": [() => use(again.id), () => use(newApiKey().id)],
	};
}

/** Over one connection, with another key each time. */
function keyUser(url: string): (id: string) => Promise<unknown> {
	const client = createClient(AuditService, createConnectTransport({ baseUrl: url, httpVersion: "2" }));
	const { secret } = newApiKey();
	return (id) => client.query({}, { headers: { authorization: `Bearer ${formatApiKey({ id, secret })}` } });
}

function clientsOf(url: string, key: string) {
	const transport = createConnectTransport({
		baseUrl: url,
		httpVersion: "2",
		interceptors: [
			(next) => (request) => {
				request.header.set("authorization", `Bearer ${key}`);
				return next(request);
			},
		],
	});
	return {
		audit: createClient(AuditService, transport),
		letters: createClient(DeadLetterService, transport),
		access: createClient(AccessService, transport),
		tenants: createClient(TenantService, transport),
	};
}

async function makeLetter(natsUrl: string, letters: ReturnType<typeof clientsOf>["letters"]): Promise<string> {
	const connection = await connectNats({ servers: natsUrl });
	const stop = AbortSignal.timeout(30_000);
	try {
		// There is no stream before the door is up.
		for (;;) {
			stop.throwIfAborted();
			const taken = await connection
				.jetstream()
				.publish(`audit.events.${THEIRS}`, "not an event")
				.catch(() => undefined);
			if (taken) break;
			await sleep(100);
		}
		for (;;) {
			stop.throwIfAborted();
			const { deadLetters } = await letters.listDeadLetters({});
			if (deadLetters[0]) return deadLetters[0].id;
			await sleep(100);
		}
	} finally {
		await connection.close();
	}
}

async function measure(pair: Pair): Promise<{ thereMs: number; notThereMs: number }> {
	const millis: [number[], number[]] = [[], []];
	const said: [Set<string>, Set<string>] = [new Set(), new Set()];
	for (let i = 0; i < samples; i += 1) {
		const first = Math.random() < 0.5 ? 0 : 1;
		for (const which of [first, 1 - first] as const) {
			const start = performance.now();
			const error: unknown = await pair[which as 0 | 1](i).then(
				() => undefined,
				(reason: unknown) => reason,
			);
			millis[which as 0 | 1].push(performance.now() - start);
			if (!(error instanceof ConnectError)) throw new Error("a call that must be refused was not", { cause: error });
			said[which as 0 | 1].add(`${error.code} ${error.rawMessage}`);
		}
	}
	if ([...said[0]].join() !== [...said[1]].join()) {
		throw new Error(`the answers differ: ${[...said[0]].join()} / ${[...said[1]].join()}`);
	}
	return { thereMs: median(millis[0]), notThereMs: median(millis[1]) };
}

function median(numbers: readonly number[]): number {
	return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}
