import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { createServer } from "node:net";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createAuditClient } from "../../src/client/index.ts";
import { loadConfig } from "../../src/config.ts";
import { createLogger } from "../../src/logger.ts";
import { startServer } from "../../src/server.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createKey } from "../support/rpc-service.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";

let database: TestDatabase;
let key: string;

beforeAll(async () => {
	database = await createTestDatabase();
	key = await createKey(database.url, "operator", "all");
	return () => database.drop();
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

const event = (tenantId: string) => ({ tenantId, action: "user.login", actor: { id: "jane" } });

test("told to stop, the service finishes the calls in flight on every protocol, and takes no others", async () => {
	const service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	const overHttp2 = createAuditClient({ url: service.grpcUrl, key, attempts: 1 });
	await overHttp2.writeEvent({ event: event("drained") });
	const idle = connectHttp2(service.httpUrl);
	await once(idle, "connect");

	const lock = await lockManifests();
	const calls = [
		overHttp2.writeEvent({ event: event("drained") }),
		createAuditClient({ url: service.httpUrl, key, attempts: 1 }).writeEvent({ event: event("drained") }),
		fetch(`${service.httpUrl}/v1/audit/events`, {
			method: "POST",
			headers: { authorization: `Bearer ${key}` },
			body: JSON.stringify({ tenant_id: "drained", action: "user.login", actor: { id: "jane" } }),
		}).then((response) => {
			expect(response.status).toBe(200);
			expect(response.headers.get("connection")).toBe("close");
			return response.json();
		}),
	];
	await lock.waitForWaiting();
	service.kill("SIGTERM");
	// The peer that has nothing in flight is sent away at once: the service is draining.
	await once(idle, "close");
	await waitFor(
		() =>
			fetch(`${service.httpUrl}/livez`).then(
				() => false,
				() => true,
			),
		{ what: "refused connections" },
	);

	await lock.release();
	expect(await Promise.all(calls)).toHaveLength(3);
	expect(await service.exited()).toBe(0);
});

test("a call that does not finish is cut off when the time to drain is over", async () => {
	const { listen } = await import("../../src/rpc/listen.ts");
	const { Authenticator } = await import("../../src/auth/authenticator.ts");
	const { deriveKeys } = await import("../../src/auth/secret.ts");
	const { hashSecret, parseApiKey } = await import("../../src/auth/api-keys.ts");
	const keys = deriveKeys(testSecret());
	const parsed = parseApiKey(key);
	if (!parsed) throw new Error("the key is none");
	const stored = { secretHash: hashSecret(keys, parsed), role: "operator" as const, tenants: "all" as const };
	let begun = () => {};
	const busy = new Promise<void>((resolve) => {
		begun = resolve;
	});
	const never = () => {
		begun();
		return new Promise<never>(() => {});
	};
	const doors = await listen({
		host: "127.0.0.1",
		httpPort: { number: 0, explicit: true },
		grpcPort: { number: 0, explicit: true },
		ingest: { accept: never },
		query: { search: never, get: never },
		authenticator: new Authenticator(() => Promise.resolve(stored), keys),
		readiness: () => Promise.resolve({ ready: true, degraded: [] }),
		logger: createLogger("silent"),
		drainMs: 50,
	});
	const call = createAuditClient({ url: doors.grpcUrl, key, attempts: 1 }).query({ tenantId: "acme" });
	const failed = expect(call).rejects.toThrow();
	await busy;
	await doors.close();
	await failed;
});

test("a port that is taken is an error that says which", async () => {
	const squatter = createServer().listen(0, "127.0.0.1");
	await once(squatter, "listening");
	const { port } = squatter.address() as { port: number };
	for (const [http, grpc] of [
		[port, 0],
		[0, port],
	]) {
		const env = { DATABASE_URL: database.url, AUDIT_SECRET: testSecret(), HTTP_PORT: `${http}`, GRPC_PORT: `${grpc}` };
		const started = startServer(loadConfig(env), createLogger("silent"));
		await expect(started).rejects.toMatchObject({
			code: "EADDRINUSE",
			port,
			message: expect.stringContaining(`${port}`),
		});
	}
	squatter.close();
});

/** Holds up every append: the transactions wait at their last statement. */
async function lockManifests() {
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	await admin.query("BEGIN");
	await admin.query("LOCK TABLE audit.manifests IN ACCESS EXCLUSIVE MODE");
	return {
		async waitForWaiting() {
			const waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'audit.manifests'::regclass";
			await waitFor(async () => ((await admin.query(waiting)).rowCount ?? 0) > 0, { what: "an append that waits" });
		},
		async release() {
			await admin.query("ROLLBACK");
			await admin.end();
		},
	};
}
