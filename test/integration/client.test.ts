import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http2";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
	ActorType,
	AuditService,
	BatchWriteResponseSchema,
	createAuditClient,
	type Event,
	Severity,
	toAuditError,
	WriteEventResponseSchema,
} from "../../src/client/index.ts";
import { RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";

let service: RpcService;
let key: string;

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
});
afterAll(() => service.end());

describe("against the service", () => {
	test("the snippet of the requirements works as it stands, on either port", async () => {
		const [companyId, userId] = ["company-1", "user-1"];
		for (const url of [service.httpUrl, service.grpcUrl]) {
			const auditClient = createAuditClient({ url, key });
			const response = await auditClient.writeEvent({
				event: {
					tenantId: companyId,
					action: "security.password_reset",
					severity: Severity.SECURITY,
					actor: { id: userId, type: ActorType.USER },
					primaryResource: { id: userId, type: "user" },
				},
			});
			expect(response.eventId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
			const { event } = await auditClient.getEvent({ tenantId: companyId, id: response.eventId });
			expect(event).toMatchObject({ action: "security.password_reset", severity: Severity.SECURITY });
		}
	});

	test("errors tell code, reason and every violation", async () => {
		const client = createAuditClient({ url: service.httpUrl, key });
		const error = await client.writeEvent({ event: { tenantId: "acme", action: "A" } }).catch(toAuditError);
		expect(error).toMatchObject({
			code: "invalid_argument",
			reason: "INVALID_EVENT",
			violations: [
				{ field: "event.action", message: "must be 1 to 127 of a-z 0-9 . _ -" },
				{ field: "event.actor", message: "is required" },
			],
		});
	});

	// One key's share of the bytes in flight, 16 MiB, holds four of them: Node's own limit of a session would not.
	test("large batches can be sent together, and more than there is room for when repeated", async () => {
		const event = { tenantId: "large", action: "a", actor: { id: "a" }, description: "x".repeat(4_000) };
		const send = (batches: number, attempts: number) => {
			const client = createAuditClient({ url: service.grpcUrl, key, attempts });
			return Promise.all(Array.from({ length: batches }, () => client.batchWrite({ events: Array(900).fill(event) })));
		};
		expect((await send(4, 1)).flatMap(({ results }) => results)).toHaveLength(3_600);
		expect((await send(8, 6)).flatMap(({ results }) => results)).toHaveLength(7_200);
	});

	test("a refused connection is `unavailable`", async () => {
		const client = createAuditClient({ url: "http://127.0.0.1:1", key, attempts: 1 });
		expect(await client.query({}).catch(toAuditError)).toMatchObject({ code: "unavailable" });
	});

	test("a connection that breaks while a write is waited for is no failure: the write is repeated, and stored once", async () => {
		// The service's answer never arrives: when it comes, the line is cut, abruptly.
		let cuts = 0;
		const line = createTcpServer((socket) => {
			const upstream = connect(Number(new URL(service.grpcUrl).port), "127.0.0.1");
			let asked = false;
			socket.on("data", (chunk) => {
				asked ||= chunk.includes("last.words");
				upstream.write(chunk);
			});
			upstream.on("data", (chunk) => {
				if (!asked || cuts === 2) return void socket.write(chunk);
				cuts += 1;
				socket.resetAndDestroy();
			});
			for (const end of [socket, upstream]) end.on("error", () => {}).on("close", () => upstream.destroy());
		});
		await once(line.listen(0, "127.0.0.1"), "listening");
		const client = createAuditClient({ url: `http://127.0.0.1:${(line.address() as AddressInfo).port}`, key });
		const event = { tenantId: "broken", action: "last.words", actor: { id: "a" } };
		expect((await client.writeEvent({ event })).eventId).toMatch(/-7/);
		expect(cuts).toBe(2);
		const { events } = await createAuditClient({ url: service.grpcUrl, key }).query({
			tenantId: "broken",
			actions: ["last.words"],
		});
		expect(events).toHaveLength(1);
		line.close();
	});

	test("an idle client does not keep the process alive", async () => {
		const script = `
			import { createAuditClient } from ${JSON.stringify(join(import.meta.dirname, "../../src/client/index.ts"))};
			const client = createAuditClient({ url: ${JSON.stringify(service.grpcUrl)}, key: ${JSON.stringify(key)} });
			const { eventId } = await client.writeEvent({ event: { tenantId: "acme", action: "a", actor: { id: "a" } } });
			console.log("Event registered:", eventId);`;
		const run = promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script], { timeout: 60_000 });
		expect((await run).stdout).toMatch(/^Event registered: [0-9a-f-]{36}\n$/);
	});
});

describe("against a server that turns it away", () => {
	/** A server that fails as often as told, then answers, and remembers the events it was sent. */
	async function flaky(failures: ConnectError[]) {
		const seen: Event[][] = [];
		const answer = (events: Event[]) => {
			seen.push(events);
			const failure = failures.shift();
			if (failure) throw failure;
		};
		const routes = (router: ConnectRouter) =>
			router.service(AuditService, {
				writeEvent({ event }) {
					answer(event ? [event] : []);
					return create(WriteEventResponseSchema, { eventId: event?.id ?? "" });
				},
				batchWrite({ events }) {
					answer(events);
					return create(BatchWriteResponseSchema, {});
				},
			});
		const server = createServer(connectNodeAdapter({ routes }));
		await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
		const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
		return { seen, client: createAuditClient({ url, key }), [Symbol.dispose]: () => void server.close() };
	}
	const retryIn = (code: number, ms: number) =>
		new ConnectError("later", code, undefined, [{ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(ms) } }]);
	const [UNAVAILABLE, RESOURCE_EXHAUSTED] = [14, 8];

	test("a write is repeated with the same id and time until it succeeds", async () => {
		using server = await flaky([
			retryIn(UNAVAILABLE, 1),
			new ConnectError("away", UNAVAILABLE),
			retryIn(RESOURCE_EXHAUSTED, 1),
		]);
		const { eventId } = await server.client.writeEvent({ event: { action: "a" } });
		expect(server.seen.map(([event]) => event?.id)).toEqual([eventId, eventId, eventId, eventId]);
		expect(eventId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]/);
	});

	test("it waits as long as it is told to", async () => {
		using server = await flaky([retryIn(RESOURCE_EXHAUSTED, 400)]);
		const begun = performance.now();
		await server.client.writeEvent({ event: { action: "a" } });
		// A timer may come a millisecond early.
		expect(performance.now() - begun).toBeGreaterThanOrEqual(398);
	});

	test("the events of a batch get ids of their own, in order; those that have one keep it", async () => {
		using server = await flaky([retryIn(UNAVAILABLE, 1)]);
		const id = "01931b8f-0000-7000-8000-000000000001";
		const events = [{ action: "a" }, { id }, { idempotencyKey: "k" }, { action: "b" }];
		await server.client.batchWrite({ events });
		expect(server.seen[0]).toEqual(server.seen[1]);
		const ids = server.seen[0]?.map((event) => event.id) ?? [];
		expect([ids[1], ids[2]]).toEqual([id, ""]);
		expect((ids[0] as string) < (ids[3] as string)).toBe(true);
		expect(events[0]).toEqual({ action: "a" });
	});

	test("what no repetition helps is not repeated", async () => {
		for (const failure of [new ConnectError("no", 3), new ConnectError("too large", RESOURCE_EXHAUSTED)]) {
			using server = await flaky([failure]);
			await expect(server.client.writeEvent({ event: { action: "a" } })).rejects.toThrow(failure.message);
			expect(server.seen).toHaveLength(1);
		}
	});

	test("it gives up when the call's time is up, with the last reason", async () => {
		using server = await flaky(Array.from({ length: 5 }, () => retryIn(UNAVAILABLE, 200)));
		const call = server.client.writeEvent({ event: { action: "a" } }, { timeoutMs: 300 });
		await expect(call).rejects.toMatchObject({ code: 4, cause: { code: UNAVAILABLE, rawMessage: "later" } });
		expect(server.seen.length).toBeLessThan(5);
	});
});
