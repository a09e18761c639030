import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Client as Postgres } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService, BatchWriteMode } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { ErrorInfoSchema, RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";

const { PARTIAL, ATOMIC } = BatchWriteMode;

/** Keys and clients of a service that is started with these limits. */
function serviceWith(env: Record<string, string>) {
	let service: RpcService;
	let admin: Postgres;
	beforeAll(async () => {
		service = await startRpcService({ env });
		admin = new Postgres({ connectionString: service.database.url });
		await admin.connect();
	});
	afterAll(async () => {
		await admin.end();
		await service.end();
	});
	return {
		url: () => service.httpUrl,
		newKey: (tenants: string[] | "all") => service.createKey("operator", tenants),
		clients: (key: string) => {
			const withKey = (next: (r: never) => unknown) => (request: { header: Headers }) => {
				request.header.set("authorization", `Bearer ${key}`);
				return next(request as never);
			};
			const interceptors = [withKey] as never;
			return [
				createClient(AuditService, createGrpcTransport({ baseUrl: service.grpcUrl, interceptors })),
				createClient(
					AuditService,
					createConnectTransport({ baseUrl: service.httpUrl, httpVersion: "1.1", interceptors }),
				),
			] as const;
		},
		stored: async (tenantId: string, action: string) => {
			const found = await admin.query(
				"SELECT count(*)::int AS n FROM audit.events WHERE tenant_id = $1 AND action = $2",
				[tenantId, action],
			);
			return found.rows[0].n as number;
		},
	};
}

function eventOf(tenantId: string, action = "user.login") {
	return { tenantId, action, actor: { id: "jane" } };
}

const eventsOf = (count: number, tenantId: string, action?: string) =>
	Array.from({ length: count }, () => eventOf(tenantId, action));

/** Why a call was refused, and for how long. */
async function refusalOf(call: Promise<unknown>): Promise<{ reason: string | undefined; retryMs: number }> {
	const error = await call.then(
		() => Promise.reject(new Error("the call was not refused")),
		(error: unknown) => ConnectError.from(error),
	);
	expect(error.code).toBe(Code.ResourceExhausted);
	const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
	return {
		reason: error.findDetails(ErrorInfoSchema)[0]?.reason,
		retryMs: Number(delay?.seconds ?? 0n) * 1000 + (delay?.nanos ?? 0) / 1e6,
	};
}

async function restStatus(url: string, key: string, path: string, body?: unknown) {
	const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
	const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
	const response = await fetch(`${url}/v1/audit/${path}`, { headers, ...init });
	const json = (await response.json()) as { error?: { reason: string; retry_after_ms: number } };
	const { reason, retry_after_ms: retryMs } = json.error ?? {};
	return { status: response.status, reason, retryMs, retryAfter: response.headers.get("retry-after") };
}

describe("a key's events a second", () => {
	const service = serviceWith({ AUDIT_KEY_EVENTS_PER_SECOND: "5", AUDIT_KEY_READS_PER_SECOND: "5" });

	test("hold over every protocol together: what is too much is refused whole, says when it passes, and passes then", async () => {
		const key = await service.newKey(["acme"]);
		const [grpc, connect] = service.clients(key);
		// More than two seconds' worth: passes, and is paid back over more than 100 seconds.
		expect(
			(await grpc.batchWrite({ events: eventsOf(520, "acme", "first.batch"), mode: PARTIAL })).results,
		).toHaveLength(520);
		for (const client of [grpc, connect]) {
			for (const mode of [PARTIAL, ATOMIC]) {
				const refused = await refusalOf(client.batchWrite({ events: eventsOf(3, "acme", "second.batch"), mode }));
				expect(refused.reason).toBe("KEY_EVENTS_PER_SECOND");
				expect(refused.retryMs).toBeGreaterThan(0);
				expect(refused.retryMs).toBeLessThanOrEqual(102_600);
			}
			expect((await refusalOf(client.writeEvent({ event: eventOf("acme", "second.batch") }))).reason).toBe(
				"KEY_EVENTS_PER_SECOND",
			);
		}
		const event = { tenant_id: "acme", action: "second.batch", actor: { id: "jane" } };
		for (const [path, body] of [
			["events", event],
			["events:batch", { events: [event] }],
		] as const) {
			const refused = await restStatus(service.url(), key, path, body);
			expect(refused).toMatchObject({ status: 429, reason: "KEY_EVENTS_PER_SECOND" });
			expect(Number(refused.retryAfter)).toBe(Math.ceil((refused.retryMs ?? 0) / 1000));
		}
		expect(await service.stored("acme", "first.batch")).toBe(520);
		expect(await service.stored("acme", "second.batch")).toBe(0);
		// Another key of the same tenant is not concerned, nor are this one's reads.
		const [other] = service.clients(await service.newKey(["acme"]));
		await other.writeEvent({ event: eventOf("acme") });
		await grpc.query({ tenantId: "acme", pageSize: 1 });
	});

	test("let a call pass after the time that was told", async () => {
		const [grpc] = service.clients(await service.newKey(["acme"]));
		await grpc.batchWrite({ events: eventsOf(20, "acme"), mode: ATOMIC });
		const { retryMs } = await refusalOf(grpc.batchWrite({ events: eventsOf(5, "acme"), mode: ATOMIC }));
		expect(retryMs).toBeLessThanOrEqual(3_000);
		await sleep(retryMs);
		expect((await grpc.batchWrite({ events: eventsOf(5, "acme"), mode: ATOMIC })).results).toHaveLength(5);
	});

	test("count reads apart, over RPC and REST", async () => {
		const key = await service.newKey(["acme"]);
		const [grpc] = service.clients(key);
		const answers = await Promise.allSettled(
			Array.from({ length: 200 }, () => grpc.query({ tenantId: "acme", pageSize: 1 })),
		);
		const refused = answers.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
		expect(refused.length).toBeGreaterThan(0);
		expect(ConnectError.from(refused[0]?.reason).findDetails(ErrorInfoSchema)[0]?.reason).toBe("KEY_READS_PER_SECOND");
		const overRest = await Promise.all(
			Array.from({ length: 200 }, () => restStatus(service.url(), key, "events?tenant_id=acme&page_size=1")),
		);
		expect(overRest.filter(({ status }) => status === 429)[0]).toMatchObject({ reason: "KEY_READS_PER_SECOND" });
		await grpc.writeEvent({ event: eventOf("acme") });
	});
});

describe("a tenant's events a second", () => {
	const service = serviceWith({ AUDIT_TENANT_EVENTS_PER_SECOND: "5" });

	test("hold for all its keys together, and for no other tenant", async () => {
		const [noisy] = service.clients(await service.newKey(["acme"]));
		const [second] = service.clients(await service.newKey(["acme"]));
		const [ofBoth] = service.clients(await service.newKey("all"));
		// The tenant is the key's own, where the event names none.
		await noisy.batchWrite({ events: eventsOf(520, ""), mode: PARTIAL });
		for (const client of [noisy, second, ofBoth]) {
			const { reason } = await refusalOf(client.writeEvent({ event: eventOf("acme") }));
			expect(reason).toBe("TENANT_EVENTS_PER_SECOND");
		}
		// A batch for two tenants is refused whole if one has too much, and charged to none.
		for (let i = 0; i < 20; i++) {
			const events = [...eventsOf(10, "globex", "with.acme"), eventOf("acme", "with.acme")];
			expect((await refusalOf(ofBoth.batchWrite({ events, mode: PARTIAL }))).reason).toBe("TENANT_EVENTS_PER_SECOND");
		}
		await ofBoth.batchWrite({ events: eventsOf(10, "globex", "alone"), mode: ATOMIC });
		expect([await service.stored("globex", "with.acme"), await service.stored("globex", "alone")]).toEqual([0, 10]);
	});

	test("are charged for no more events than a batch may hold, however many were sent to be refused", async () => {
		const [careless] = service.clients(await service.newKey(["umbrella"]));
		const [careful] = service.clients(await service.newKey(["umbrella"]));
		const sent = careless.batchWrite({ events: Array.from({ length: 200_000 }, () => ({})) });
		expect(await sent.catch((error: unknown) => ConnectError.from(error).code)).toBe(Code.InvalidArgument);
		const { retryMs } = await refusalOf(careful.writeEvent({ event: eventOf("umbrella") }));
		expect(retryMs).toBeLessThanOrEqual(200_000);
	});

	test("are not used up by keys that may not write to it", async () => {
		const [stranger] = service.clients(await service.newKey(["initech"]));
		const [own] = service.clients(await service.newKey(["hooli"]));
		const mixed = [...eventsOf(200, "hooli"), eventOf("initech")];
		const { results } = await stranger.batchWrite({ events: mixed, mode: PARTIAL });
		expect(results.filter(({ result }) => result.case === "written")).toHaveLength(1);
		await own.writeEvent({ event: eventOf("hooli") });
	});
});

describe("bytes a second", () => {
	const service = serviceWith({ AUDIT_KEY_BYTES_PER_SECOND: "2000", AUDIT_TENANT_BYTES_PER_SECOND: "4000" });
	const large = (tenantId: string) => ({ ...eventOf(tenantId), metadata: { text: "x".repeat(50_000) } });

	test("hold for keys and for tenants, over RPC and REST", async () => {
		const key = await service.newKey(["acme"]);
		const [, connect] = service.clients(key);
		await connect.writeEvent({ event: large("acme") });
		expect((await refusalOf(connect.writeEvent({ event: eventOf("acme") }))).reason).toBe("KEY_BYTES_PER_SECOND");
		const event = { tenant_id: "acme", action: "user.login", actor: { id: "jane" } };
		expect((await restStatus(service.url(), key, "events", event)).reason).toBe("KEY_BYTES_PER_SECOND");
		const [other] = service.clients(await service.newKey(["acme"]));
		expect((await refusalOf(other.writeEvent({ event: eventOf("acme") }))).reason).toBe("TENANT_BYTES_PER_SECOND");
	});

	test("are counted as they are sent", async () => {
		const key = await service.newKey(["globex"]);
		const headers = { authorization: `Bearer ${key}`, "content-type": "application/json", "content-encoding": "gzip" };
		const event = { tenant_id: "globex", action: "a.b", actor: { id: "jane" }, metadata: { text: "x".repeat(50_000) } };
		const send = () =>
			fetch(`${service.url()}/v1/audit/events`, { method: "POST", headers, body: gzipSync(JSON.stringify(event)) });
		for (let i = 0; i < 5; i++) expect((await send()).status).toBe(200);
	});
});
