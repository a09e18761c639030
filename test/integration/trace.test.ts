import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import { AuditService } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { eventMessage, type NatsClient, openNatsClient, untilDrained } from "../support/nats-client.ts";
import type { PrintedSpan } from "../support/print-spans.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, waitFor } from "../support/services.ts";
import { anEvent } from "../support/write-path.ts";

let database: TestDatabase;
let nats: Nats;
let key: string;
let service: ServiceProcess;
let producer: NatsClient;

beforeAll(async () => {
	[database, nats] = await Promise.all([createTestDatabase(), startOwnNats()]);
	key = await createKey(database.url, "operator", "all");
	service = await startService({
		DATABASE_URL: database.url,
		NATS_URL: nats.url,
		AUDIT_AUTO_CREATE_TENANTS: "true",
		LOG_LEVEL: "debug",
		NODE_OPTIONS: `--import ${join(import.meta.dirname, "../support/print-spans.ts")}`,
	});
	await waitFor(() => service.stdout.includes('"msg":"the NATS door is up"'), { what: "the NATS door" });
	producer = await openNatsClient(nats.url);
});
afterAll(async () => {
	await producer.close();
	expect(await service.stop()).toBe(0);
	await Promise.all([nats.stop(), database.drop()]);
});

const json = <T>(text: string): T[] =>
	text
		.split("\n")
		.filter((line) => line.startsWith("{") && line.endsWith("}"))
		.map((line) => JSON.parse(line) as T);
const spans = () => json<PrintedSpan>(service.stderr).filter(({ span }) => span !== undefined);
const lines = () => json<Record<string, unknown>>(service.stdout);

const lists = (ids: unknown, id: string) => Array.isArray(ids) && ids.includes(id);

/** A trace of a caller's: its ids, and the headers it sends. */
function aTrace() {
	const hex = (bytes: number) => Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex");
	const [traceId, spanId, requestId] = [hex(16), hex(8), `request-${hex(4)}`];
	const headers = { traceparent: `00-${traceId}-${spanId}-01`, tracestate: "vendor=opaque", "x-request-id": requestId };
	return { traceId, spanId, requestId, headers };
}

/** The span of the door in this trace, and the flush it is linked to. */
async function doorAndFlush(traceId: string) {
	const door = await waitFor(() => spans().find((s) => s.traceId === traceId && s.kind !== "INTERNAL"), {
		what: "the door's span",
	});
	const flush = await waitFor(() => spans().find(({ spanId }) => door.links.includes(spanId)), { what: "the flush" });
	return { door, flush };
}

describe("a write is one trace, from the caller's span to the batch its event is in", () => {
	const over = {
		gRPC: createGrpcTransport,
		Connect: (options: { baseUrl: string }) => createConnectTransport({ ...options, httpVersion: "2" }),
	};
	const write = {
		gRPC: (headers: Record<string, string>) => writeOver("gRPC", headers),
		Connect: (headers: Record<string, string>) => writeOver("Connect", headers),
		REST: async (headers: Record<string, string>) => {
			const response = await fetch(`${service.httpUrl}/v1/audit/events`, {
				method: "POST",
				headers: { ...headers, authorization: `Bearer ${key}`, "content-type": "application/json" },
				body: JSON.stringify({ tenant_id: "acme", action: "user.login", actor: { id: "u" } }),
			});
			const { receipt } = (await response.json()) as { receipt: { batch_id: string } };
			return receipt.batch_id;
		},
	};
	async function writeOver(protocol: keyof typeof over, headers: Record<string, string>): Promise<string> {
		const client = createClient(AuditService, over[protocol]({ baseUrl: service.httpUrl }));
		const all = { ...headers, authorization: `Bearer ${key}` };
		const { receipt } = await client.writeEvent({ event: anEvent() }, { headers: all });
		return String(receipt?.batchId);
	}

	test.each(["gRPC", "Connect", "REST"] as const)("over %s", async (protocol) => {
		const { traceId, spanId, requestId, headers } = aTrace();
		const batchId = await write[protocol](headers);

		const { door, flush } = await doorAndFlush(traceId);
		expect(door).toMatchObject({
			span: protocol === "REST" ? "REST writeEvent" : "WriteEvent",
			kind: "SERVER",
			parentId: spanId,
			remoteParent: true,
			traceState: "vendor=opaque",
			failed: false,
			attributes: { "audit.request_id": requestId, "audit.batch_ids": [batchId] },
		});
		const parts = spans().filter(({ parentId }) => parentId === door.spanId);
		expect(parts.map(({ span, traceId }) => [span, traceId])).toEqual([
			["admit", traceId],
			["commit", traceId],
		]);
		// What calls share belongs to none of them.
		expect(flush).toMatchObject({ span: "flush", parentId: null, links: [door.spanId] });
		expect(flush.traceId).not.toBe(traceId);
		expect(flush.attributes).toMatchObject({ "audit.batch_ids": [batchId], "audit.events": 1 });

		// The log alone leads from either id to the batch, and back.
		const call = await waitFor(() => lines().find((line) => line["request_id"] === requestId), { what: "its line" });
		expect(call).toMatchObject({ msg: "call answered", trace_id: traceId, batch_ids: [batchId] });
		const flushed = await waitFor(() =>
			lines().find((line) => line["msg"] === "flush committed" && lists(line["batch_ids"], batchId)),
		);
		expect(flushed).toMatchObject({ door: "rpc", events: 1, request_ids: [requestId], trace_ids: [traceId] });
	});

	test("over NATS", async () => {
		const [one, other] = [aTrace(), aTrace()];
		await producer.publish([
			{ ...eventMessage(anEvent()), headers: one.headers },
			eventMessage(anEvent()),
			{ ...eventMessage(anEvent()), headers: { ...other.headers, traceparent: "malformed" } },
		]);
		await untilDrained(producer);
		const { door, flush } = await doorAndFlush(one.traceId);
		expect(door).toMatchObject({
			span: "process audit.events",
			kind: "CONSUMER",
			parentId: one.spanId,
			remoteParent: true,
			traceState: "vendor=opaque",
			failed: false,
			attributes: { "messaging.system": "nats", "messaging.destination.name": "audit.events" },
		});
		expect(flush).toMatchObject({ span: "flush", parentId: null, links: expect.arrayContaining([door.spanId]) });
		const flushed = await waitFor(() => lines().find((line) => lists(line["trace_ids"], one.traceId)));
		expect(flushed).toMatchObject({
			msg: "flush committed",
			door: "nats",
			batch_ids: flush.attributes["audit.batch_ids"],
			request_ids: expect.arrayContaining([one.requestId]),
			first_stream_seq: expect.stringMatching(/^\d+$/),
		});
		await waitFor(() => lines().some((line) => lists(line["request_ids"], other.requestId)), {
			what: "the flush of the other message",
		});
	});
});

test("a call that fails fails its span, and a malformed trace begins a new one", async () => {
	const { traceId, requestId, headers } = aTrace();
	const client = createClient(AuditService, createGrpcTransport({ baseUrl: service.grpcUrl }));
	const failing = client.writeEvent({ event: anEvent({ action: "" }) }, { headers: { ...headers, "x-api-key": key } });
	await expect(failing).rejects.toThrow();
	const span = await waitFor(() => spans().find((s) => s.traceId === traceId && s.kind === "SERVER"));
	expect(span).toMatchObject({ failed: true, attributes: { "audit.request_id": requestId } });

	const malformed = aTrace();
	const sent = { ...malformed.headers, traceparent: malformed.headers.traceparent.toUpperCase(), "x-api-key": key };
	await client.writeEvent({ event: anEvent() }, { headers: sent });
	const own = await waitFor(() => spans().find((s) => s.attributes["audit.request_id"] === malformed.requestId));
	expect(own.parentId).toBeNull();
	expect(own.traceId).not.toBe(malformed.traceId);
});

test("an event's own context is its caller's to give: a call's ids are not put into it", async () => {
	const client = createClient(AuditService, createGrpcTransport({ baseUrl: service.grpcUrl }));
	const headers = { ...aTrace().headers, "x-api-key": key };
	const { eventId } = await client.writeEvent({ event: anEvent() }, { headers });
	const { event } = await client.getEvent({ tenantId: "acme", id: eventId }, { headers });
	expect(event?.context).toBeUndefined();
});
