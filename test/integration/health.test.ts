import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createAuditClient } from "../../src/client/index.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../src/gen/grpc/health/v1/health_pb.ts";
import { createKey, type RpcService, startDoors, startRpcService } from "../support/rpc-service.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, waitFor } from "../support/services.ts";

let service: RpcService;

beforeAll(async () => {
	service = await startRpcService();
});
afterAll(() => service.end());

const healthAt = (baseUrl: string) => createClient(Health, createGrpcTransport({ baseUrl }));

/** Follows a watched service; `seen` grows as statuses come. */
function watch(baseUrl: string, name = "") {
	const seen: Status[] = [];
	const leaving = new AbortController();
	const ended = (async () => {
		for await (const { status } of healthAt(baseUrl).watch({ service: name }, { signal: leaving.signal })) {
			seen.push(status);
		}
		return "ended";
	})().catch((error: unknown) => (leaving.signal.aborted ? "left" : error));
	return { seen, ended, leave: () => leaving.abort() };
}

const SERVICES = [
	"audit.v1.AuditService",
	"audit.v1.DeadLetterService",
	"grpc.health.v1.Health",
	"grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection",
];

describe.each(["httpUrl", "grpcUrl"] as const)("health at %s, without a key", (port) => {
	test.each(["", ...SERVICES])("of %j is known", async (name) => {
		expect((await healthAt(service[port]).check({ service: name })).status).toBe(Status.SERVING);
	});

	test("lists the whole and every service", async () => {
		const { statuses } = await healthAt(service[port]).list({});
		expect(Object.keys(statuses)).toEqual(expect.arrayContaining(["", ...SERVICES]));
		expect(new Set(Object.values(statuses).map(({ status }) => status))).toEqual(new Set([Status.SERVING]));
	});

	test("of a service that is not there is NOT_FOUND, and SERVICE_UNKNOWN for who watches", async () => {
		const check = healthAt(service[port]).check({ service: "audit.v1.Nobody" });
		await expect(check).rejects.toMatchObject({ code: Code.NotFound });
		const watched = watch(service[port], "audit.v1.Nobody");
		await waitFor(() => watched.seen.length > 0);
		expect(watched.seen).toEqual([Status.SERVICE_UNKNOWN]);
		watched.leave();
		expect(await watched.ended).toBe("left");
	});
});

test("what is asked in a name that is too long is refused, not read", async () => {
	const check = healthAt(service.grpcUrl).check({ service: "x".repeat(5_000) });
	await expect(check).rejects.toMatchObject({ code: Code.ResourceExhausted });
});

test("health follows readiness, and who watches is told of every change, after any silence", async () => {
	let ready = true;
	const never = () => new Promise<never>(() => {});
	const doors = await startDoors({
		readiness: () => Promise.resolve({ ready, degraded: [] }),
		query: { search: never, get: never },
		limits: { stalledMs: 100, readMs: 3_000 },
	});
	const watchers = Array.from({ length: 20 }, (_, i) => watch(i % 2 ? doors.httpUrl : doors.grpcUrl));
	const all = (...statuses: Status[]) =>
		waitFor(() => {
			for (const { seen } of watchers) expect(seen).toEqual(statuses);
			return true;
		});
	await all(Status.SERVING);
	// A call that stands still is over when its time is up; the watchers stand still as long, and are not.
	const client = createAuditClient({ url: doors.grpcUrl, key: doors.createKey("reader"), attempts: 1 });
	await expect(client.query({ tenantId: "acme" })).rejects.toThrow();
	ready = false;
	await all(Status.SERVING, Status.NOT_SERVING);
	expect((await healthAt(doors.grpcUrl).check({})).status).toBe(Status.NOT_SERVING);
	expect((await fetch(`${doors.httpUrl}/readyz`)).status).toBe(503);
	ready = true;
	await all(Status.SERVING, Status.NOT_SERVING, Status.SERVING);
	for (const watcher of watchers) watcher.leave();
	expect(new Set(await Promise.all(watchers.map(({ ended }) => ended)))).toEqual(new Set(["left"]));
	// Nobody is left to tell; who comes again is told.
	ready = false;
	const late = watch(doors.httpUrl);
	await waitFor(() => late.seen.at(-1) === Status.NOT_SERVING);
	await doors.close();
	expect(await late.ended).toBe("ended");
});

test("told to stop, the service says NOT_SERVING first, and the streams of those who watch end", async () => {
	const database = await createTestDatabase();
	const key = await createKey(database.url, "operator", "all");
	const child = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	const watchers = [watch(child.httpUrl), watch(child.grpcUrl, "audit.v1.AuditService")];
	await waitFor(() => watchers.every(({ seen }) => seen.length === 1));
	// A call in flight: it asked for the rest.
	const session = connectHttp2(child.grpcUrl);
	const head = { authorization: `Bearer ${key}`, "content-type": "application/json", expect: "100-continue" };
	const call = session.request({ ":method": "POST", ":path": "/audit.v1.AuditService/WriteEvent", ...head });
	await once(call, "continue");

	child.kill("SIGTERM");
	await waitFor(() => watchers.every(({ seen }) => seen.at(-1) === Status.NOT_SERVING));
	expect(await Promise.all(watchers.map(({ ended }) => ended))).toEqual(["ended", "ended"]);
	// All that time the call had not even been sent.
	call.end(JSON.stringify({ event: { tenantId: "acme", action: "a.b", actor: { id: "u" } } }));
	const [answer] = (await once(call, "response")) as [Record<string, unknown>];
	expect(answer[":status"]).toBe(200);
	call.resume();
	expect(await child.exited()).toBe(0);
	await database.drop();
});
