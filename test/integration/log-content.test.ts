import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { create, type MessageInitShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import { AuditService, BatchWriteRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { ActorType, Category, EventSchema, Outcome, Severity } from "../../src/gen/audit/v1/event_pb.ts";
import { Health } from "../../src/gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import { type NatsClient, openNatsClient, untilDrained } from "../support/nats-client.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, waitFor } from "../support/services.ts";

let database: TestDatabase;
let nats: Nats;
let key: string;
let admin: Client;
let service: ServiceProcess;
let producer: NatsClient;

beforeAll(async () => {
	[database, nats] = await Promise.all([createTestDatabase(), startOwnNats()]);
	key = await createKey(database.url, "operator", "all");
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	service = await startService({
		DATABASE_URL: database.url,
		NATS_URL: nats.url,
		AUDIT_AUTO_CREATE_TENANTS: "true",
		LOG_LEVEL: "trace",
	});
	await waitFor(() => service.stdout.includes('"msg":"the NATS door is up"'), { what: "the NATS door" });
	producer = await openNatsClient(nats.url);
});
afterAll(async () => {
	await producer.close();
	await admin.end();
	await Promise.all([nats.stop(), database.drop()]);
});

/** In everything a caller sends. */
const MARK = "canary-91c4";
const TEXT = `${MARK} "quoted"\n\ttext`;
const IP = "203.0.113.177";
const UUID = "91c491c4-91c4-41c4-91c4-91c491c491c4";
const PAYLOAD = /canary|CANARY|203\.0\.113\.177|91c491c4|Y2FuYXJ5/;

/** An event with something to be recognised by in every field that can hold it. */
function markedEvent(init: MessageInitShape<typeof EventSchema> = {}) {
	const actor = { type: ActorType.USER, id: MARK, displayName: TEXT, email: `${MARK}@example.com` };
	const resource = { type: MARK, id: MARK, displayName: TEXT, role: MARK };
	const given: MessageInitShape<typeof EventSchema> = {
		tenantId: `tenant-${MARK}`,
		action: `${MARK}.action`,
		category: Category.AUTH,
		severity: Severity.SECURITY,
		outcome: Outcome.DENIED,
		outcomeReason: TEXT,
		source: MARK,
		actor,
		onBehalfOf: [actor],
		primaryResource: resource,
		relatedResources: [resource],
		context: { ipAddress: IP, userAgent: TEXT, requestId: MARK, traceId: MARK, sessionId: MARK, location: TEXT },
		changes: { oldValue: { [MARK]: TEXT }, newValue: { [MARK]: [MARK] }, changedFields: [MARK] },
		description: TEXT,
		reason: TEXT,
		metadata: { [MARK]: { [MARK]: TEXT } },
		retentionClass: MARK,
	};
	return create(EventSchema, Object.assign(given, init));
}
const idOf = (id: string) => ({ id, occurredAt: { seconds: BigInt(Math.floor(Date.now() / 1000)), nanos: 0 } });
const BAD = [{ action: MARK.toUpperCase() }, { actor: { id: `${MARK}\0` } }, { context: { ipAddress: MARK } }];

let calls = 0;
/** Headers of a call that can be found in the log again. */
function traced(): { requestId: string; traceId: string; headers: Record<string, string> } {
	calls += 1;
	const requestId = `call-${calls}`;
	const traceId = calls.toString(16).padStart(32, "a");
	const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
	return { requestId, traceId, headers: { "x-request-id": requestId, traceparent, tracestate: `v=${MARK}` } };
}
const lines = () =>
	service.stdout
		.split("\n")
		.filter((line) => line.endsWith("}"))
		.map((line) => JSON.parse(line) as Record<string, unknown>);
const failed: ReturnType<typeof traced>[] = [];

/** A call that has to fail. */
async function fails(run: (headers: Record<string, string>) => Promise<unknown>): Promise<void> {
	const call = traced();
	failed.push(call);
	await expect(run({ authorization: `Bearer ${key}`, ...call.headers })).rejects.toThrow();
}
async function post(path: string, body: string | Uint8Array, headers: Record<string, string>, method = "POST") {
	const init = { method, headers, ...(method === "POST" && { body: body as string }) };
	const response = await fetch(service.httpUrl + path, init);
	await response.text();
	if (!response.ok) throw new Error(`${response.status}`);
}

async function callEverything(transport: Transport): Promise<void> {
	const client = createClient(AuditService, transport);
	const headers = { authorization: `Bearer ${key}`, ...traced().headers };
	const event = markedEvent(idOf(crypto.randomUUID()));
	await client.writeEvent({ event }, { headers });
	await client.writeEvent({ event }, { headers });
	await client.batchWrite({ events: [markedEvent(), ...BAD.map(markedEvent)] }, { headers });
	const filters = { tenantId: event.tenantId, actorIds: [MARK], actions: [`${MARK}*`], sources: [MARK], text: "" };
	const found = await client.query({ ...filters, pageSize: 1 }, { headers });
	await client.query({ ...filters, pageSize: 1, pageToken: found.nextPageToken }, { headers });
	await client.getEvent({ tenantId: event.tenantId, id: event.id }, { headers });
	for (const bad of BAD) await fails((h) => client.writeEvent({ event: markedEvent(bad) }, { headers: h }));
	const reused = Object.assign(event, { description: `${TEXT} again` });
	await fails((h) => client.writeEvent({ event: reused }, { headers: h }));
	await fails((h) => client.query({ tenantId: event.tenantId, pageToken: MARK }, { headers: h }));
	await fails((h) => client.query({ tenantId: TEXT }, { headers: h }));
	await fails((h) => client.query({ tenantId: event.tenantId, actions: [TEXT] }, { headers: h }));
	await fails((h) => client.getEvent({ tenantId: event.tenantId, id: UUID }, { headers: h }));
	await fails((h) => client.getEvent({ tenantId: event.tenantId, id: MARK }, { headers: h }));
	await fails((h) => client.query({}, { headers: { ...h, authorization: `Bearer ${MARK}` } }));
	await fails((h) => client.query({}, { headers: { ...h, authorization: `Bearer al_${MARK}_${MARK}` } }));
	const wrongSecret = key.replace(/_[^_]+$/, `_${"91c491c4".repeat(8)}`);
	await fails((h) => client.query({}, { headers: { ...h, authorization: `Bearer ${wrongSecret}` } }));
	await fails((h) => createClient(Health, transport).check({ service: MARK }, { headers: h }));
}

async function callWithoutClients(): Promise<void> {
	const json = { "content-type": "application/json" };
	const rpc = "/audit.v1.AuditService/WriteEvent";
	const bodies = [MARK, `{"event":{"${MARK}":1}}`, `{"event":{"severity":"${MARK}"}}`, `{"event":{"id":"${MARK}"`];
	for (const body of bodies) {
		await fails((h) => post(rpc, body, { ...h, ...json }));
		await fails((h) => post("/v1/audit/events", body, { ...h, ...json }));
		await fails((h) => post("/v1/audit/events:batch", body, { ...h, ...json }));
	}
	await fails((h) => post(rpc, MARK, { ...h, "content-type": "application/proto" }));
	await fails((h) => post(rpc, MARK, { ...h, "content-type": "application/proto", "content-encoding": "gzip" }));
	await fails((h) => post(rpc, MARK, { ...h, "content-type": `application/${MARK}` }));
	await fails((h) => post(rpc, "{}", { ...h, ...json, "connect-timeout-ms": MARK }));
	await fails((h) => post("/v1/audit/events", MARK, { ...h, ...json, "content-encoding": MARK }));
	for (const path of [
		`/v1/audit/events?tenant_id=acme&${MARK}=1`,
		`/v1/audit/events?tenant_id=acme&page_token=${MARK}&actor_ids=${MARK}`,
		`/v1/audit/events/${MARK}?tenant_id=acme`,
		`/${MARK}`,
		`/audit.v1.AuditService/${MARK}?${MARK}`,
	]) {
		await fails((h) => post(path, "", h, "GET"));
	}
	// Not even a request.
	const socket = connectTcp(Number(new URL(service.httpUrl).port), "127.0.0.1");
	socket.resume().write(`${MARK} / ${MARK}\r\n${MARK}: ${MARK}\r\n\r\n`);
	await once(socket, "close");
	async function* question() {
		yield { host: MARK, messageRequest: { case: "fileContainingSymbol", value: MARK } as const };
	}
	const reflection = createClient(ServerReflection, createGrpcTransport({ baseUrl: service.grpcUrl }));
	for await (const answer of reflection.serverReflectionInfo(question())) expect(answer.originalRequest).toBeDefined();
}

async function publishEverything(): Promise<void> {
	const subject = "audit.events.acme";
	const headers = { [`X-${MARK}`]: TEXT.replaceAll(/\s/g, " "), traceparent: MARK, "X-Request-Id": `${MARK} unfit` };
	const own = markedEvent({ tenantId: "acme" });
	const reused = idOf(crypto.randomUUID());
	const batch = create(BatchWriteRequestSchema, { events: [own, markedEvent()] });
	await producer.publish([
		{ subject, headers, data: toBinary(EventSchema, own) },
		{ subject, headers, data: toJsonString(EventSchema, own) },
		{ subject, headers: { ...headers, "Audit-Type": "batch" }, data: toBinary(BatchWriteRequestSchema, batch) },
		{ subject, headers: { ...headers, "Audit-Type": MARK }, data: MARK },
		{ subject, headers, data: toBinary(EventSchema, markedEvent()) },
		{ subject, headers, data: MARK },
		{ subject, headers, data: `{"${MARK}":"${MARK}"}` },
		{ subject, headers, data: `{"${MARK}` },
		{ subject: `audit.events.${MARK}/${MARK}`, headers, data: MARK },
		...BAD.map((bad) => ({ subject, headers, data: toBinary(EventSchema, markedEvent({ ...bad, tenantId: "acme" })) })),
		...[TEXT, "other"].map((description) => ({
			subject,
			data: toBinary(EventSchema, markedEvent({ ...reused, tenantId: "acme", description })),
		})),
	]);
	await untilDrained(producer);
}

/** The database itself complains, and says what about. */
async function failInside(): Promise<void> {
	await admin.query(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
		AS $$ BEGIN RAISE EXCEPTION 'refused: %', NEW.actor_id USING DETAIL = NEW.u_actor; END $$`);
	await admin.query("CREATE TRIGGER refuse BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION refuse()");
	const event = markedEvent({ tenantId: "acme" });
	const client = createClient(AuditService, createGrpcTransport({ baseUrl: service.grpcUrl }));
	await fails((h) => client.writeEvent({ event }, { headers: h }));
	await producer.publish([{ subject: "audit.events.acme", data: toBinary(EventSchema, event) }]);
	await waitFor(() => lines().find(({ msg }) => msg === "messages cannot be stored; trying again"));
	await admin.query("DROP TRIGGER refuse ON audit.events");
	await untilDrained(producer);
	// What admission lets through and the database does not.
	await admin.query(`ALTER TABLE audit.events ADD CONSTRAINT fit CHECK (source <> '${MARK}x') NOT VALID`);
	const unfit = markedEvent({ tenantId: "acme", source: `${MARK}x` });
	await fails((h) => client.writeEvent({ event: unfit }, { headers: h }));
	await producer.publish([{ subject: "audit.events.acme", data: toBinary(EventSchema, unfit) }]);
	await untilDrained(producer);
}

test("nothing of what callers send reaches the log, at any level; what fails is told once, and can be found", async () => {
	const baseUrl = service.httpUrl;
	await callEverything(createGrpcTransport({ baseUrl: service.grpcUrl }));
	await callEverything(createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }));
	await callEverything(createConnectTransport({ baseUrl, httpVersion: "2" }));
	await callEverything(createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }));
	await callWithoutClients();
	await publishEverything();
	await failInside();
	expect(await service.stop()).toBe(0);

	const output = service.stdout + service.stderr;
	expect(output.split("\n").filter((line) => PAYLOAD.test(line))).toEqual([]);
	expect(output).not.toContain(key.split("_")[2]);
	// The log was not silent: calls, flushes and dead letters are all told of.
	const messages = new Set(lines().map(({ msg }) => msg));
	for (const msg of ["call answered", "call failed", "flush committed", "messages became dead letters"]) {
		expect(messages).toContain(msg);
	}
	for (const { requestId, traceId } of failed) {
		const told = lines().filter((line) => line["request_id"] === requestId);
		expect(told).toEqual([
			expect.objectContaining({
				msg: "call failed",
				trace_id: traceId,
				code: expect.stringMatching(/^[a-z_]+$/),
				reason: expect.stringMatching(/^[A-Z_]+$/),
			}),
		]);
	}
});
