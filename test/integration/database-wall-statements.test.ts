import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
	type AuditClient,
	createAuditClient,
	createDeadLetterClient,
	type DeadLetterClient,
	ExportFormat,
	type ExportRequestSchema,
} from "../../src/client/index.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { type Postgres, startPostgres } from "../../src/dev/postgres.ts";
import { type NatsClient, openNatsClient, untilDrained } from "../support/nats-client.ts";
import { runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { ownDirectory, startOwnNats, testSecret } from "../support/services.ts";

/**
 * The setting that names the tenant is no privilege: whoever gets a statement of their own past the service could set another.
 * So nothing that comes from outside is ever part of a statement. PostgreSQL logs every statement here, without the
 * parameters, and what callers send is marked.
 */

const MARK = "c4nary";
/** Would end a literal, a pattern, an identifier or a statement, if it stood in one. */
const HOSTILE = [
	`${MARK}' OR '1'='1`,
	`${MARK}'; SET audit.tenant_id = '${MARK}-globex'; --`,
	`${MARK}\\'; SELECT 1; --`,
	`${MARK}" OR "a"="a`,
	`${MARK}$$ $1 $2 :1 ? @p`,
	`${MARK}%_*`,
	`${MARK}{1,2}]),(SELECT set_config('audit.tenant_id','${MARK}-globex',true)`,
	`${MARK}/* */ UNION SELECT * FROM audit.events --`,
];
const ACME = `${MARK}-acme`;
const GLOBEX = `${MARK}-globex`;

let postgres: Postgres;
let nats: Nats;
let producer: NatsClient;
let service: ServiceProcess;
let client: AuditClient;
let letters: DeadLetterClient;
let logFile: string;
let env: Record<string, string>;

beforeAll(async () => {
	const dataDir = ownDirectory("postgres");
	logFile = join(dataDir, "postgres.log");
	[postgres, nats] = await Promise.all([
		startPostgres({ dataDir, settings: { log_statement: "all" } }),
		startOwnNats(),
	]);
	env = { DATABASE_URL: postgres.url, AUDIT_SECRET: testSecret() };
	await runCli(["migrate"], env);
	service = await startService({ ...env, NATS_URL: nats.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	const made = await runCli(["key", "create", "--role", "operator", "--name", HOSTILE[0] ?? "", "--all-tenants"], env);
	const key = made.stdout.trim();
	client = createAuditClient({ url: service.httpUrl, key });
	letters = createDeadLetterClient({ url: service.httpUrl, key });
	producer = await openNatsClient(nats.url);
});

afterAll(async () => {
	await producer?.close();
	await service?.stop();
	await nats?.stop();
	await postgres?.stop();
});

const STARTED = Date.now();
const eventOf = (tenantId: string, hostile: string) => ({
	tenantId,
	action: "user.login",
	source: hostile,
	actor: { id: hostile, email: hostile, displayName: hostile },
	primaryResource: { type: hostile, id: hostile, displayName: hostile },
	context: { requestId: hostile, traceId: hostile, userAgent: hostile, sessionId: hostile },
	description: hostile,
	reason: hostile,
	metadata: { [hostile]: hostile },
	idempotencyKey: hostile,
	occurredAt: { seconds: BigInt(Math.floor(STARTED / 1000)), nanos: 0 },
});

test("whatever callers write, search and name, by whichever door, is no part of any statement, and finds its own tenant's alone", async () => {
	for (const tenant of [ACME, GLOBEX]) {
		// The second time by the careful path, which finds what is stored.
		for (const isRetry of [false, true]) {
			const { results } = await client.batchWrite({ events: HOSTILE.map((hostile) => eventOf(tenant, hostile)) });
			const written = results.map(({ result }) => (result.case === "written" ? result.value.duplicate : result.value));
			expect(written).toEqual(HOSTILE.map(() => isRetry));
		}
	}
	for (const [n, hostile] of HOSTILE.entries()) {
		for (const filter of [
			{ actorIds: [hostile] },
			{ actorEmails: [hostile] },
			{ sources: [hostile] },
			{ resourceType: hostile, resourceId: hostile },
			{ requestId: hostile },
			{ traceId: hostile },
			{ actorIds: HOSTILE, sources: [hostile], pageSize: 1 },
		]) {
			const found = await client.query({ tenantId: ACME, ...filter });
			expect(
				found.events.map(({ tenantId, description }) => [tenantId, description]),
				`${n}`,
			).toEqual([[ACME, hostile]]);
		}
		// Counts and files have the hostile words in them, and so do the filters, the names of columns and zones.
		const query = {
			tenantId: ACME,
			actorIds: [hostile],
			notActorIds: [`${hostile}x`],
			actorOrOnBehalfOfIds: [hostile],
			touchingIds: [hostile],
			resourceType: hostile,
			text: hostile,
		};
		const counted = await client.aggregate({ query, fields: [6, 7, 10, 11] });
		expect(counted.fields.map(({ values }) => values.map(({ value, count }) => [value, count]))).toEqual(
			counted.fields.map(() => [[hostile, 1n]]),
		);
		await expect(client.aggregate({ query, timeZone: hostile })).rejects.toThrow(/invalid_argument/);
		const file = { query, format: ExportFormat.NDJSON };
		expect((await exported(file)).at(-1)).toMatchObject({ case: "manifest", value: { events: 1n } });
		for (const odd of [{ columns: [hostile] }, { resumeToken: hostile }])
			await expect(exported({ ...file, ...odd })).rejects.toThrow(/invalid_argument/);
		for (const odd of [{ ids: [hostile] }, { actions: [hostile] }, { pageToken: hostile }, { tenantId: hostile }])
			await expect(client.query({ tenantId: ACME, ...odd })).rejects.toThrow(/invalid_argument/);
		await expect(client.getEvent({ tenantId: ACME, id: hostile })).rejects.toThrow(/invalid_argument/);
	}
	const page = await client.query({ tenantId: ACME, pageSize: 3 });
	const next = await client.query({ tenantId: ACME, pageSize: 3, pageToken: page.nextPageToken });
	expect(next.events).toHaveLength(3);
	await client.getEvent({ tenantId: ACME, id: page.events[0]?.id ?? "" });

	const subject = `audit.events.${ACME}`;
	await producer.publish([
		...HOSTILE.map((hostile) => ({ subject, data: JSON.stringify({ action: "by.nats", actor: { id: hostile } }) })),
		...HOSTILE.map((hostile) => ({ subject, data: hostile, headers: { "Audit-Note": hostile } })),
	]);
	await untilDrained(producer);
	expect((await client.query({ tenantId: ACME, actions: ["by.nats"] })).events).toHaveLength(HOSTILE.length);
	const { deadLetters } = await letters.listDeadLetters({ filter: { tenantId: ACME } });
	expect(deadLetters).toHaveLength(HOSTILE.length);
	const [first, second] = deadLetters.map(({ id }) => id) as [string, string];
	await letters.getDeadLetter({ id: first });
	await letters.redriveDeadLetters({ ids: [first] });
	await letters.discardDeadLetters({ ids: [second], reason: HOSTILE[1] ?? "" });
	await expect(letters.getDeadLetter({ id: HOSTILE[0] ?? "" })).rejects.toThrow(/invalid_argument|not_found/);
	await runCli(["tenant", "list"], env);
	expect(await runCli(["verify"], env)).toMatchObject({ exitCode: 0 });

	const log = readFileSync(logFile, "utf8");
	// The statements were logged, those that carried all this among them.
	for (const seen of [
		"INSERT INTO audit.api_keys",
		"COPY audit.events",
		"audit.find_api_key",
		"set_config($1, $2, true)",
		"audit.settle_dead_letter",
		"ON CONFLICT",
		"GROUPING SETS",
		"audit.newest_batch",
	])
		expect(log).toContain(seen);
	expect(log.split("\n").filter((line) => line.includes(MARK))).toEqual([]);
});

async function exported(request: MessageInitShape<typeof ExportRequestSchema>) {
	const parts = [];
	for await (const { part } of client.export(request)) parts.push(part);
	return parts;
}

describe("what another tenant has is answered as what nobody has", () => {
	/** What a reader of one tenant is answered, but for what names the request and the moment, and what PostgreSQL was asked for it. */
	async function ask(path: string, body?: unknown): Promise<{ answer: string; asked: string[] }> {
		const before = readFileSync(logFile, "utf8").length;
		const response = await fetch(`${service.httpUrl}${path}`, {
			headers: { Authorization: `Bearer ${acmeKey}`, "Content-Type": "application/json", "x-request-id": "the-same" },
			...(body !== undefined && { method: "POST", body: JSON.stringify(body) }),
		});
		const text = await response.text();
		const told = [...response.headers].filter(([name]) => name !== "date");
		const asked = readFileSync(logFile, "utf8")
			.slice(before)
			.split("\n")
			// The reader's alone: the service asks other things now and then.
			.filter((line) => /set_config|FROM audit\.(events|tenants|dead_letters)/.test(line))
			.map((line) => line.replace(/^.*?LOG: +/, ""));
		return { answer: JSON.stringify([response.status, told, text]), asked };
	}

	let acmeKey: string;
	let ofGlobex: { id: string; at: string };

	beforeAll(async () => {
		acmeKey = (
			await runCli(["key", "create", "--role", "operator", "--name", "acme", "--tenant", "acme"], env)
		).stdout.trim();
		const event = { action: "user.login", actor: { id: "u" } };
		await client.writeEvent({ event: { ...event, tenantId: "acme" } });
		const written = await client.writeEvent({ event: { ...event, tenantId: "globex" } });
		const { event: stored } = await client.getEvent({ tenantId: "globex", id: written.eventId });
		ofGlobex = { id: written.eventId, at: new Date(Number(stored?.occurredAt?.seconds) * 1000).toISOString() };
	});

	test.each([
		["an event", () => [`/v1/audit/events/${ofGlobex.id}`, `/v1/audit/events/${unused(ofGlobex.id)}`]],
		[
			"an event at its time",
			() => [ofGlobex.id, unused(ofGlobex.id)].map((id) => `/v1/audit/events/${id}?occurred_at=${ofGlobex.at}`),
		],
		["events by their ids", () => [ofGlobex.id, unused(ofGlobex.id)].map((id) => `/v1/audit/events?ids=${id}`)],
		["a tenant's events", () => ["globex", "nobody"].map((id) => `/v1/audit/events?tenant_id=${id}`)],
		[
			"one event of a tenant",
			() => ["globex", "nobody"].map((id) => `/v1/audit/events/${ofGlobex.id}?tenant_id=${id}`),
		],
	])("%s", async (_, paths) => {
		const [theirs, nobodys] = paths() as [string, string];
		const [first, second] = [await ask(theirs), await ask(nobodys)];
		expect(first).toEqual(second);
		// What is the tenant's own is answered otherwise: the comparison can tell.
		const own = await ask("/v1/audit/events");
		expect(own.answer).not.toBe(first.answer);
		expect(own.asked.length).toBeGreaterThan(1);
	});

	test.each(["globex", "nobody"])("a write to %s", async (tenantId) => {
		const { answer } = await ask("/v1/audit/events", { tenant_id: tenantId, action: "user.login", actor: { id: "u" } });
		expect(JSON.parse(answer)[0]).toBe(404);
		answers.add(answer);
		expect(answers.size).toBe(1);
	});
	const answers = new Set<string>();
});

/** A UUID of the same millisecond, and so of the same month, that nothing has. */
function unused(id: string): string {
	const last = id.at(-1) === "0" ? "1" : "0";
	return id.slice(0, -1) + last;
}
