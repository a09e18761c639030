import { request as httpRequest } from "node:http";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type AuditClient, createAuditClient, createDeadLetterClient, toAuditError } from "../../src/client/index.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { AuditService, ExportFormat, Order, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { Event } from "../../src/gen/audit/v1/event_pb.ts";
import type { RECORDED } from "../../src/rpc/recorded-reads.ts";
import { checkTrail } from "../support/check-trail.ts";
import { exportFile } from "../support/export-file.ts";
import { openNatsClient, untilDrained, untilUp } from "../support/nats-client.ts";
import { createKey, type RpcService, startRpcService } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, startOwnNats, testSecret } from "../support/services.ts";

/** Who read a tenant's log is in the tenant's log: through the doors of a running service. */

let service: RpcService;
let nats: Nats;
let admin: Client;
let letterIds: string[];
/** Events of each tenant. */
const ids = { acme: "", globex: "" };

beforeAll(async () => {
	nats = await startOwnNats();
	service = await startRpcService({ natsUrl: nats.url });
	admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	const writer = clientWith(await service.createKey("writer", "all"));
	for (const tenantId of ["acme", "globex"] as const) {
		for (const action of ["user.login", "user.logout"]) {
			({ eventId: ids[tenantId] } = await writer.writeEvent({ event: { tenantId, action, actor: { id: "jane" } } }));
		}
	}
	if (!service.natsDoor) throw new Error("there is no NATS door");
	await untilUp(service.natsDoor);
	const producer = await openNatsClient(nats.url);
	const bad = JSON.stringify({ action: "NO ACTION", actor: { id: "jane" } });
	await producer.publish(
		["acme", "acme", "globex"].map((tenant) => ({ subject: `audit.events.${tenant}`, data: bad })),
	);
	await untilDrained(producer);
	await producer.close();
	const { rows } = await admin.query<{ id: string }>("SELECT tenant_id AS id FROM audit.dead_letters ORDER BY 1");
	expect(rows.map(({ id }) => id)).toEqual(["acme", "acme", "globex"]);
	const lister = createDeadLetterClient({ url: service.httpUrl, key: await service.createKey("operator", "all") });
	letterIds = (await lister.listDeadLetters({ filter: { tenantId: "acme" } })).deadLetters.map(({ id }) => id);
});
afterAll(async () => {
	await service.close();
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await admin.end();
	await service.database.drop();
	await nats.stop();
});

function clientWith(key: string): AuditClient {
	return createAuditClient({ url: service.httpUrl, key, attempts: 1 });
}

/** A key of its own: what it read nobody else did. The middle of its text is its id. */
async function newKey(role: "reader" | "operator" = "reader", tenants: readonly string[] | "all" = ["acme"]) {
	const key = await service.createKey(role, tenants);
	return { key, id: key.split("_")[1] as string, client: clientWith(key) };
}

interface StoredRead {
	readonly tenant: string;
	readonly address: string;
	readonly request: string;
	readonly shown: { type: string; id: string }[] | null;
	readonly metadata: { method: string; protocol: string; filter: Record<string, unknown>; returned: number };
}

/** What is in the logs of a key's reads. */
async function readsOf(id: string): Promise<StoredRead[]> {
	const { rows } = await admin.query<StoredRead>(
		`SELECT tenant_id AS tenant, u_context::jsonb ->> 'ip_address' AS address, request_id AS request,
		        u_resources::jsonb -> 'related_resources' AS shown, u_metadata::jsonb AS metadata
		 FROM audit.events WHERE action = 'audit.read' AND actor_id = $1 ORDER BY batch_id, ord`,
		[id],
	);
	return rows;
}

const actionsOf = (events: readonly Event[]) => new Set(events.map(({ action }) => action));

describe("an answer that shows something is recorded before it leaves", () => {
	type RecordedRpc = {
		[Rpc in keyof typeof RECORDED]: (typeof RECORDED)[Rpc] extends true ? Rpc : never;
	}[keyof typeof RECORDED];
	/** Each of them, once. One that is missing does not compile. */
	const READS: Record<RecordedRpc, (key: string) => Promise<unknown>> = {
		query: (key) => clientWith(key).query({ tenantId: "acme", actions: ["user.*"] }),
		getEvent: (key) => clientWith(key).getEvent({ tenantId: "acme", id: ids.acme }),
		export: (key) =>
			exportFile(clientWith(key), { query: { tenantId: "acme", actions: ["user.*"] }, format: ExportFormat.CSV }),
		listDeadLetters: (key) => createDeadLetterClient({ url: service.httpUrl, key }).listDeadLetters({}),
		getDeadLetter: (key) =>
			createDeadLetterClient({ url: service.httpUrl, key }).getDeadLetter({ id: letterIds[0] ?? "" }),
	};
	const WANTED: Record<RecordedRpc, () => object[]> = {
		query: () => [{ method: "Query", filter: { actions: ["user.*"] }, returned: 2 }],
		getEvent: () => [{ method: "GetEvent", filter: { id: ids.acme, occurred_at: expect.any(String) }, returned: 1 }],
		export: () => [
			{
				method: "Export",
				filter: { actions: ["user.*"] },
				format: "EXPORT_FORMAT_CSV",
				up_to_batch: expect.any(Number),
			},
		],
		listDeadLetters: () => [
			{ method: "ListDeadLetters", filter: {}, returned: 2 },
			{ method: "ListDeadLetters", filter: {}, returned: 1 },
		],
		getDeadLetter: () => [{ method: "GetDeadLetter", filter: { id: letterIds[0] }, returned: 1 }],
	};

	test.each(Object.keys(READS) as RecordedRpc[])("%s", async (rpc) => {
		const { key, id } = await newKey("operator", "all");
		await READS[rpc](key);
		const found = (await readsOf(id)).toSorted((a, b) => (a.tenant < b.tenant ? -1 : 1));
		expect(found.map(({ metadata }) => metadata)).toEqual(
			WANTED[rpc]().map((wanted) => ({ ...wanted, protocol: "connect" })),
		);
		expect(found.map(({ tenant }) => tenant)).toEqual(rpc === "listDeadLetters" ? ["acme", "globex"] : ["acme"]);
	});

	test("what was asked for by its id is a resource of the event", async () => {
		const { key, id } = await newKey("operator", "all");
		await READS.getEvent(key);
		await READS.getDeadLetter(key);
		expect((await readsOf(id)).map(({ shown }) => shown)).toEqual([
			[{ type: "event", id: ids.acme }],
			[{ type: "dead_letter", id: letterIds[0] }],
		]);
	});

	test.each<[string, (baseUrl: string) => Transport]>([
		["connect", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" })],
		["grpc", (baseUrl) => createGrpcTransport({ baseUrl })],
		["grpc-web", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
	])("over %s", async (protocol, open) => {
		const { key, id } = await newKey();
		const client = createClient(AuditService, open(service.httpUrl));
		const headers = { authorization: `Bearer ${key}`, "x-request-id": "request-4711" };
		await client.query({ pageSize: 1 }, { headers });
		expect(await readsOf(id)).toEqual([
			{
				tenant: "acme",
				address: "127.0.0.1",
				request: "request-4711",
				shown: null,
				metadata: { method: "Query", protocol, filter: {}, returned: 1 },
			},
		]);
	});

	test("over REST, with the same filter as over anything else", async () => {
		const { key, id, client } = await newKey();
		const { status } = await rest(key, "/v1/audit/events?severities=SEVERITY_INFO&occurred_after=2026-01-01T00:00:00Z");
		expect(status).toBe(200);
		await rest(key, `/v1/audit/events/${ids.acme}`);
		await client.query({ severities: [2], occurredAfter: { seconds: BigInt(Date.UTC(2026, 0, 1) / 1000), nanos: 0 } });
		await client.getEvent({ id: ids.acme });
		expect((await readsOf(id)).map(({ metadata: { protocol, filter } }) => [protocol, filter])).toEqual([
			["rest", { severities: ["SEVERITY_INFO"], occurred_after: "2026-01-01T00:00:00Z" }],
			["rest", { id: ids.acme, occurred_at: expect.any(String) }],
		]);
	});

	test("an empty answer, too; one that was refused or failed is none", async () => {
		const { client, id, key } = await newKey();
		expect((await client.query({ actorIds: ["nobody"] })).events).toEqual([]);
		await expect(client.query({ pageSize: -1 })).rejects.toThrow();
		await expect(client.query({ tenantId: "globex" })).rejects.toThrow();
		await expect(client.getEvent({ id: ids.globex })).rejects.toThrow();
		await expect(createDeadLetterClient({ url: service.httpUrl, key }).listDeadLetters({})).rejects.toThrow();
		expect((await readsOf(id)).map(({ metadata }) => metadata)).toEqual([
			{ method: "Query", protocol: "connect", filter: { actor_ids: ["nobody"] }, returned: 0 },
		]);
	});

	test("that a tenant has no dead letters is in its log, not in others'", async () => {
		const { key, id } = await newKey("operator", "all");
		const client = createDeadLetterClient({ url: service.httpUrl, key });
		await client.listDeadLetters({ filter: { tenantId: "globex", reasons: ["NO_SUCH_REASON"] } });
		expect((await readsOf(id)).map(({ tenant, metadata }) => [tenant, metadata.filter, metadata.returned])).toEqual([
			["globex", { reasons: ["NO_SUCH_REASON"] }, 0],
		]);
	});
});

describe("the same reads are one", () => {
	test("page by page, in whatever order, whatever the page's size, and however the filter is spelt", async () => {
		const { client, id } = await newKey();
		const filter = { actions: ["user.login", "user.logout"], occurredAfter: { seconds: 1_700_000_000n, nanos: 1_001 } };
		const { nextPageToken: pageToken } = await client.query({ ...filter, pageSize: 1 });
		expect(pageToken).not.toBe("");
		await client.query({ ...filter, pageSize: 10, pageToken });
		await client.query({ ...filter, order: Order.OLDEST_FIRST });
		await client.query({ ...filter, tenantId: "acme", actions: ["user.logout", "user.login", "user.login"] });
		await client.query({ ...filter, occurredAfter: { seconds: 1_700_000_000n, nanos: 1_999 } });
		expect(await readsOf(id)).toHaveLength(1);
		await client.query({ ...filter, occurredAfter: { seconds: 1_700_000_000n, nanos: 2_001 } });
		expect(await readsOf(id)).toHaveLength(2);
	});

	test("50 first ones at once", async () => {
		const { client, id } = await newKey();
		await Promise.all(Array.from({ length: 50 }, () => client.query({})));
		expect(await readsOf(id)).toHaveLength(1);
	});

	test("not of other filters, methods, addresses, tenants or keys", async () => {
		const { client, id, key } = await newKey("operator", "all");
		const other = await newKey("operator", "all");
		for (const tenantId of ["acme", "globex"]) await client.query({ tenantId });
		await client.query({ tenantId: "acme", actions: ["user.*"] });
		await client.getEvent({ tenantId: "acme", id: ids.acme });
		await other.client.query({ tenantId: "acme" });
		await new Promise((resolve, reject) => {
			const url = `${service.httpUrl}/v1/audit/events?tenant_id=acme`;
			const options = { localAddress: "127.0.0.2", headers: { authorization: `Bearer ${key}` } };
			httpRequest(url, options, (response) => response.resume().once("end", resolve))
				.once("error", reject)
				.end();
		});
		expect((await readsOf(id)).map(({ tenant, address, metadata }) => [tenant, address, metadata.method])).toEqual([
			["acme", "127.0.0.1", "Query"],
			["globex", "127.0.0.1", "Query"],
			["acme", "127.0.0.1", "Query"],
			["acme", "127.0.0.1", "GetEvent"],
			["acme", "127.0.0.2", "Query"],
		]);
		expect(await readsOf(other.id)).toHaveLength(1);
	});
});

describe("who sees it", () => {
	test("an operator's read is seen by the tenant's own reader, in its tenant's log alone", async () => {
		const operator = await newKey("operator", "all");
		await operator.client.query({ tenantId: "acme", actions: ["user.login"] });
		const { events } = await (await newKey()).client.query({ includeReads: true, actorIds: [operator.id] });
		expect(events.map(({ action, tenantId, metadata }) => [action, tenantId, metadata?.["filter"]])).toEqual([
			["audit.read", "acme", { actions: ["user.login"] }],
		]);
		const stranger = await newKey("reader", ["globex"]);
		expect((await stranger.client.query({ includeReads: true, actorIds: [operator.id] })).events).toEqual([]);
	});

	test("searches leave it out, unless asked for it by include_reads or by name; GetEvent gives it", async () => {
		const { client } = await newKey();
		await client.query({});
		const find = async (request: Parameters<AuditClient["query"]>[0]) =>
			(await client.query({ pageSize: 1000, ...request })).events;
		for (const actions of [[], ["*"], ["a*"], ["audit*"], ["audi*", "user.login"]]) {
			const found = actionsOf(await find({ actions }));
			expect([actions, [...found].filter((action) => action.startsWith("audit.read"))]).toEqual([actions, []]);
			expect([actions, found.size > 0]).toEqual([actions, true]);
		}
		expect(actionsOf(await find({ includeReads: true }))).toContain("audit.read");
		for (const name of ["audit.*", "audit.read*", "audit.r*", "audit.read"]) {
			expect(actionsOf(await find({ actions: ["user.login", name] }))).toContain("audit.read");
		}
		const [event] = await find({ actions: ["audit.read"], pageSize: 1 });
		expect((await client.getEvent({ id: event?.id ?? "" })).event?.action).toBe("audit.read");
	});

	test("over REST and on the command line likewise", async () => {
		const { key, client } = await newKey();
		await client.query({});
		const find = async (params: string) => {
			const { status, json } = await rest(key, `/v1/audit/events?page_size=1000&${params}`);
			expect(status).toBe(200);
			return new Set((json["events"] as { action: string }[]).map(({ action }) => action));
		};
		expect(await find("")).not.toContain("audit.read");
		expect(await find("include_reads=false")).not.toContain("audit.read");
		expect(await find("include_reads=true")).toContain("audit.read");
		const refused = await rest(key, "/v1/audit/events?include_reads=yes");
		expect([refused.status, refused.json]).toMatchObject([
			400,
			{ error: { violations: [{ field: "include_reads", message: "must be true or false" }] } },
		]);
		const env = { AUDIT_URL: service.httpUrl, AUDIT_KEY: key };
		const printed = async (...args: string[]) =>
			(await runCli(["query", "-o", "csv", "-n", "1000", ...args], env)).stdout;
		expect(await printed()).not.toContain("audit.read");
		expect(await printed("--include-reads")).toContain("audit.read");
	});

	test("a page token is bound to it", async () => {
		const { client } = await newKey();
		const [without, including] = await Promise.all([
			client.query({ pageSize: 1 }),
			client.query({ pageSize: 1, includeReads: true }),
		]);
		const refusal = { reason: "INVALID_PAGE_TOKEN" };
		const next = (pageToken: string, includeReads: boolean) =>
			client.query({ pageSize: 1, pageToken, includeReads }).then(
				() => ({ reason: "" }),
				(error: unknown) => toAuditError(error as Parameters<typeof toAuditError>[0]),
			);
		expect(await next(without.nextPageToken, true)).toMatchObject(refusal);
		expect(await next(including.nextPageToken, false)).toMatchObject(refusal);
		expect(await next(without.nextPageToken, false)).toMatchObject({ reason: "" });
		expect(await next(including.nextPageToken, true)).toMatchObject({ reason: "" });
	});

	test("reading nothing but that is not recorded: who looks at it again and again does not find more each time", async () => {
		const { client, id } = await newKey();
		await client.query({ actorIds: ["nobody"] });
		const seen = async (request: Parameters<AuditClient["query"]>[0]) =>
			(await client.query({ actorIds: [id], ...request })).events.length;
		const before = await readsOf(id);
		for (const request of [
			{ includeReads: true },
			{ actions: ["audit.*"] },
			{ actions: ["audit.read", "audit.read.*"] },
		]) {
			expect([await seen(request), await seen(request), await seen(request)]).toEqual([1, 1, 1]);
		}
		const [event] = (await client.query({ actorIds: [id], includeReads: true })).events;
		await client.getEvent({ id: event?.id ?? "" });
		// Whoever follows it with a moving bound finds nothing, again and again.
		const follow = { actions: ["audit.read*"], occurredAfter: event?.occurredAt ?? {} };
		expect((await client.query({ ...follow, actorIds: ["nobody"] })).events).toEqual([]);
		expect(await readsOf(id)).toEqual(before);
		// With anything else in it, it is a read like any other.
		await client.query({ actions: ["audit.*", "user.login"] });
		expect(await readsOf(id)).toHaveLength(before.length + 1);
	});
});

describe("nothing a caller asks for keeps it from being recorded", () => {
	/** As long as can be, of what JSON has to escape. */
	const HOSTILE = ['"', "\\", "é", "😀", " ", "<", "{}", "$1"];
	const filled = (text: string, bytes: number) => text.repeat(Math.floor(bytes / Buffer.byteLength(text)));
	const SPECIAL: Record<string, (n: number) => string> = {
		ids: (n) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`,
		actions: (n) => `${"a".repeat(120)}.${n}`,
		actor_emails: (n) => `${filled(HOSTILE[n % 2] ?? "", 314)}${n}`,
	};

	test("a filter with 100 values of 256 bytes in every list is in it whole", async () => {
		const { client, id } = await newKey();
		const request: Record<string, unknown> = {};
		let values = 0;
		for (const field of QueryRequestSchema.fields) {
			if (field.fieldKind === "list") {
				const value = (n: number) =>
					field.enum
						? -2_147_483_648 + n
						: (SPECIAL[field.name]?.(n) ?? `${filled(HOSTILE[n % HOSTILE.length] ?? "", 250)}${n}`);
				request[field.localName] = Array.from({ length: 100 }, (_, n) => value(n));
				values += 100;
			} else if (field.message) {
				const seconds = field.name.endsWith("after") ? -62_135_596_800n : 253_402_300_799n;
				request[field.localName] = { seconds, nanos: 999_999_999 };
			} else if (/^(resource_|request_id|trace_id)/.test(field.name)) {
				request[field.localName] = filled('"', 256);
			}
		}
		expect((await client.query({ ...request, includeReads: true })).events).toEqual([]);
		const [found] = await readsOf(id);
		const filter = found?.metadata.filter ?? {};
		expect(Object.keys(filter)).toHaveLength(QueryRequestSchema.fields.length - 4);
		expect(Object.values(filter).filter(Array.isArray).flat()).toHaveLength(values);
		expect(filter["actor_ids"]).toEqual(request["actorIds"]);
		const { rows } = await admin.query<{ bytes: number }>(
			"SELECT octet_length(u_metadata) AS bytes FROM audit.events WHERE action = 'audit.read' AND actor_id = $1",
			[id],
		);
		// Three quarters of what an event may have: there is room for a filter or two more.
		expect(rows[0]?.bytes).toBeLessThan(192 * 1024);
	});
});

test("a key whose name is longer than names in events are is named by its beginning", async () => {
	// Before there was AccessService nobody looked at the names of keys.
	const name = "\u{1f511}".repeat(300);
	const key = await createKey(service.database.url, "reader", ["acme"], { name });
	await clientWith(key).query({});
	const { rows } = await admin.query<{ name: string }>(
		`SELECT u_actor::jsonb #>> '{actor,display_name}' AS name FROM audit.events
		 WHERE action = 'audit.read' AND actor_id = $1`,
		[key.split("_")[1]],
	);
	expect(rows).toEqual([{ name: "\u{1f511}".repeat(256) }]);
});

describe("no answer without its record", () => {
	afterEach(async () => {
		await admin.query("DROP TRIGGER IF EXISTS refuse ON audit.events");
	});

	test("where it is refused the read is, at every door, and nothing of the answer is told", async () => {
		const { key, client, id } = await newKey("operator", ["acme"]);
		await admin.query(
			`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			   IF NEW.action = 'audit.read' THEN RAISE 'no reads'; END IF; RETURN NEW; END $$`,
		);
		await admin.query("CREATE TRIGGER refuse BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION refuse()");
		const letters = createDeadLetterClient({ url: service.httpUrl, key, attempts: 1 });
		const calls = [
			client.query({}),
			client.getEvent({ id: ids.acme }),
			letters.listDeadLetters({}),
			letters.getDeadLetter({ id: letterIds[0] ?? "" }),
		];
		for (const outcome of await Promise.allSettled<unknown>(calls)) {
			expect(outcome.status).toBe("rejected");
			const error = toAuditError((outcome as PromiseRejectedResult).reason as Parameters<typeof toAuditError>[0]);
			expect([error.code, error.reason, error.retryAfterMs]).toEqual(["unavailable", "READ_NOT_RECORDED", 1000]);
		}
		for (const path of ["/v1/audit/events", `/v1/audit/events/${ids.acme}`]) {
			const { status, text } = await rest(key, path);
			expect(status).toBe(503);
			expect(text).not.toMatch(/user\.log|jane/);
		}
		await admin.query("DROP TRIGGER refuse ON audit.events");
		await client.query({});
		expect(await readsOf(id)).toHaveLength(1);
	});

	test("while the database takes no writes there are no answers; then there are", async () => {
		const { client, id } = await newKey();
		const { name } = service.database;
		await admin.query(
			`REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC; GRANT CONNECT ON DATABASE ${name} TO audit_reader`,
		);
		try {
			await admin.query(
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename LIKE '%writer%'",
				[name],
			);
			const error: unknown = await client.query({}).catch((caught: unknown) => caught);
			expect(toAuditError(error as Parameters<typeof toAuditError>[0])).toMatchObject({
				code: "unavailable",
				reason: "READ_NOT_RECORDED",
			});
		} finally {
			await admin.query(`GRANT CONNECT ON DATABASE ${name} TO PUBLIC`);
		}
		await client.query({});
		expect(await readsOf(id)).toHaveLength(1);
	});

	test("a service killed the moment its answer is there leaves the record behind", async () => {
		const found = await afterReading(async (process) => {
			process.kill("SIGKILL");
			await process.exited();
		});
		expect(found.map(({ action }) => action)).toEqual(["audit.read"]);
	});

	test("one that is stopped has counted what was read", async () => {
		const found = await afterReading(async (process, read) => {
			await read();
			await read();
			expect(await process.stop()).toBe(0);
		});
		expect(found).toMatchObject([
			{ action: "audit.read", metadata: { returned: 1 } },
			{ action: "audit.read.summary", metadata: { reads: 3, returned: 3 } },
		]);
		expect(found[1]?.related).toBe(found[0]?.id);
	});
});

type Process = Awaited<ReturnType<typeof startService>>;

/** What is in the log of a tenant with one event after a service of its own was read from once, and then ended somehow. */
async function afterReading(end: (process: Process, read: () => Promise<void>) => Promise<void>) {
	const database = await createTestDatabase();
	const client = new Client({ connectionString: database.url });
	await client.connect();
	try {
		const key = await createKey(database.url, "operator", "all");
		const process = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
		const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
		const body = JSON.stringify({ tenant_id: "acme", action: "user.login", actor: { id: "jane" } });
		await fetch(`${process.httpUrl}/v1/audit/events`, { method: "POST", headers, body });
		const read = async () => {
			const answer = await fetch(`${process.httpUrl}/v1/audit/events?tenant_id=acme&actions=user.*`, { headers });
			expect(await answer.json()).toMatchObject({ events: [{ action: "user.login" }] });
		};
		await read();
		await end(process, read);
		await checkTrail({ databaseUrl: database.url, secret: testSecret() });
		const { rows } = await client.query<{ id: string; action: string; related: string; metadata: object }>(
			`SELECT id, action, u_resources::jsonb #>> '{related_resources,0,id}' AS related, u_metadata::jsonb AS metadata
			 FROM audit.events WHERE action LIKE 'audit.read%' ORDER BY batch_id, ord`,
		);
		return rows;
	} finally {
		await client.end();
		await database.drop();
	}
}

async function rest(key: string, path: string) {
	const response = await fetch(service.httpUrl + path, { headers: { authorization: `Bearer ${key}` } });
	const text = await response.text();
	return { status: response.status, text, json: JSON.parse(text) as Record<string, unknown> };
}
