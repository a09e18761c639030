import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect, createServer } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createAuditClient } from "../../src/client/index.ts";
import { loadConfig } from "../../src/config.ts";
import { createLogger } from "../../src/logger.ts";
import { startServer } from "../../src/server.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createKey, startDoors } from "../support/rpc-service.ts";
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

const RPC = "/audit.v1.AuditService/WriteEvent";
const event = { tenantId: "drained", action: "user.login", actor: { id: "jane" } };

test("told to stop, the service finishes the calls in flight on every protocol, and takes no others", async () => {
	const service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	const idle = connectHttp2(service.httpUrl);
	await once(idle, "connect");
	const calls = await Promise.all([
		beginOverHttp2(service.grpcUrl),
		beginOverHttp1(service.httpUrl, RPC),
		beginOverHttp1(service.httpUrl, "/v1/audit/events"),
	]);

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

	const [rpcOverHttp2, rpc, rest] = calls;
	expect(await rpcOverHttp2.finish({ event })).toEqual({ status: 200, connection: undefined });
	expect(await rpc.finish({ event })).toEqual({ status: 200, connection: "close" });
	expect(await rest.finish(event)).toEqual({ status: 200, connection: "close" });
	expect(await service.exited()).toBe(0);
});

test("a call that does not finish is cut off when the time to drain is over", async () => {
	let begun = () => {};
	const busy = new Promise<void>((resolve) => {
		begun = resolve;
	});
	const never = () => {
		begun();
		return new Promise<never>(() => {});
	};
	const doors = await startDoors({ query: { search: never, get: never }, limits: { drainMs: 50 } });
	const key = doors.createKey("reader");
	const call = createAuditClient({ url: doors.grpcUrl, key, attempts: 1 }).query({ tenantId: "acme" });
	const failed = expect(call).rejects.toThrow();
	await busy;
	await doors.close();
	await failed;
});

test("an idle connection is not cut off under a request that is on its way", async () => {
	const doors = await startDoors({ limits: { drainMs: 20_000 } });
	const agent = new Agent({ keepAlive: true, maxSockets: 1 });
	const ask = async () => {
		const request = httpRequest(`${doors.httpUrl}/livez`, { agent }).end();
		const [response] = (await once(request, "response")) as [IncomingMessage];
		await once(response.resume(), "end");
		return { reused: request.reusedSocket, status: response.statusCode, connection: response.headers.connection };
	};
	await ask();
	const closed = doors.close();
	const refused = () => once(connect(Number(new URL(doors.httpUrl).port), "127.0.0.1"), "connect");
	await waitFor(
		() =>
			refused().then(
				() => false,
				() => true,
			),
		{ what: "refused connections", intervalMs: 5 },
	);
	expect(await ask()).toEqual({ reused: true, status: 200, connection: "close" });
	await closed;
	agent.destroy();
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

/** A call of which the service has the headers: it asked for the rest. */
interface BegunCall {
	finish(body: unknown): Promise<{ status: unknown; connection: unknown }>;
}

function headers() {
	return { authorization: `Bearer ${key}`, "content-type": "application/json", expect: "100-continue" };
}

async function beginOverHttp1(url: string, path: string): Promise<BegunCall> {
	const request = httpRequest(url + path, { method: "POST", headers: headers() });
	request.flushHeaders();
	await once(request, "continue");
	return {
		async finish(body) {
			request.end(JSON.stringify(body));
			const [response] = (await once(request, "response")) as [IncomingMessage];
			response.resume();
			return { status: response.statusCode, connection: response.headers.connection };
		},
	};
}

async function beginOverHttp2(url: string): Promise<BegunCall> {
	const session = connectHttp2(url);
	const stream = session.request({ ":method": "POST", ":path": RPC, ...headers() }, { endStream: false });
	await once(stream, "continue");
	return {
		async finish(body) {
			stream.end(JSON.stringify(body));
			const [response] = (await once(stream, "response")) as [Record<string, unknown>];
			stream.resume();
			return { status: response[":status"], connection: response["connection"] };
		},
	};
}
