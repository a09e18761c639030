import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditService, toAuditError } from "../../src/client/index.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
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
const TENANT = "restarted";

test("one process is replaced by another under load: no call fails, and nothing acknowledged is lost", async () => {
	const env = { DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" };
	const [old, next] = await Promise.all([
		startService({ ...env, AUDIT_DRAIN_NOTICE_MS: "6000", AUDIT_DRAIN_MS: "30000" }),
		startService(env),
	]);
	const http = await startBalancer(old.httpUrl);
	const grpc = await startBalancer(old.grpcUrl);
	const callers = [
		overHttp1(http.url, RPC, (event) => ({ event })),
		overHttp1(http.url, "/v1/audit/events", (event) => event),
		overHttp2(http.url),
		overHttp2(grpc.url),
		overGrpc(grpc.url),
	];
	const loops = callers.flatMap((caller) => [1, 2, 3].map(() => startLoop(caller)));
	await waitFor(() => loops.every(({ written }) => written.length >= 5), { what: "traffic", deadlineMs: 60_000 });

	old.kill("SIGTERM");
	// What a load balancer does: it asks, and sends no more there; then the connections it has made are ended in order.
	await waitFor(async () => (await readiness(old)) === 503, { what: "unreadiness" });
	http.target = next.httpUrl;
	grpc.target = next.grpcUrl;
	expect(await old.exited()).toBe(0);

	const sofar = loops.map(({ written }) => written.length);
	await waitFor(() => loops.every(({ written }, i) => written.length >= (sofar[i] ?? 0) + 5), {
		what: "traffic to the other process",
		deadlineMs: 60_000,
	});
	await Promise.all(loops.map((loop) => loop.stop()));
	expect(loops.flatMap(({ failures }) => failures)).toEqual([]);
	for (const caller of callers) caller.end();
	expect(await storedIds()).toEqual(new Set(loops.flatMap(({ written }) => written)));
	for (const balancer of [http, grpc]) balancer.close();
	expect(await next.stop()).toBe(0);
}, 120_000);

interface Caller {
	/** Writes an event and waits for OK. */
	write(id: string): Promise<void>;
	end(): void;
}

interface Loop {
	readonly written: string[];
	readonly failures: unknown[];
	stop(): Promise<void>;
}

/** Calls without a pause until it is stopped. */
function startLoop(caller: Caller): Loop {
	const written: string[] = [];
	const failures: unknown[] = [];
	let isStopped = false;
	const run = async () => {
		while (!isStopped) {
			const id = randomUUID();
			await caller.write(id).then(
				() => written.push(id),
				(error: unknown) => failures.push(error),
			);
			// A caller that fails at once would leave the others no time.
			if (failures.length > 20) return;
		}
	};
	const running = run();
	return {
		written,
		failures,
		stop: () => {
			isStopped = true;
			return running;
		},
	};
}

function eventOf(id: string) {
	return { id, tenantId: TENANT, action: "user.login", actor: { id: "jane" }, occurredAt: new Date().toISOString() };
}

/** Over connections that are kept, until an answer says `Connection: close`. */
function overHttp1(url: string, path: string, bodyOf: (event: object) => object): Caller {
	const agent = new Agent({ keepAlive: true });
	const write = (id: string) =>
		new Promise<void>((resolve, reject) => {
			const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
			const request = httpRequest(url + path, { method: "POST", agent, headers }, (response: IncomingMessage) => {
				const answered = () =>
					response.statusCode === 200 ? resolve() : reject(new Error(`${path}: ${response.statusCode}`));
				response.resume().on("end", answered).on("error", reject);
			});
			request.on("error", reject).end(JSON.stringify(bodyOf(eventOf(id))));
		});
	return { write, end: () => agent.destroy() };
}

/** Over one session, until GOAWAY. A call that GOAWAY says was not taken is sent again on the next one. */
function overHttp2(url: string): Caller {
	let session: ClientHttp2Session | undefined;
	const open = () => {
		const opened = connectHttp2(url);
		opened.on("error", () => {});
		opened.once("goaway", () => {
			if (session === opened) session = undefined;
		});
		opened.once("close", () => {
			if (session === opened) session = undefined;
		});
		return opened;
	};
	const write = async (id: string): Promise<void> => {
		session ??= open();
		const headers = { ":method": "POST", ":path": RPC, authorization: `Bearer ${key}` };
		const stream = session.request({ ...headers, "content-type": "application/json" });
		let status: unknown;
		stream
			.on("error", () => {})
			.on("response", (response) => {
				status = response[":status"];
			});
		stream.resume().end(JSON.stringify({ event: eventOf(id) }));
		await new Promise((resolve) => stream.once("close", resolve));
		if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) return write(id);
		if (status !== 200 || stream.rstCode !== 0) throw new Error(`HTTP/2: ${String(status)}, reset ${stream.rstCode}`);
	};
	return { write, end: () => session?.destroy() };
}

/** With a gRPC client, which makes its connections itself. Not with ours: that would repeat calls. */
function overGrpc(baseUrl: string): Caller {
	const sendKey: Interceptor = (next) => (request) => {
		request.header.set("authorization", `Bearer ${key}`);
		return next(request);
	};
	const client = createClient(AuditService, createGrpcTransport({ baseUrl, interceptors: [sendKey] }));
	const write = async (id: string): Promise<void> => {
		const { occurredAt, ...event } = eventOf(id);
		const ms = Date.parse(occurredAt);
		const time = { seconds: BigInt(Math.floor(ms / 1_000)), nanos: (ms % 1_000) * 1_000_000 };
		try {
			await client.writeEvent({ event: { ...event, occurredAt: time } });
		} catch (error) {
			// The one error that says the call was not taken: GOAWAY named an earlier one.
			if (/NGHTTP2_REFUSED_STREAM/.test(String(error))) return write(id);
			throw toAuditError(error);
		}
	};
	return { write, end: () => {} };
}

/** Carries every new connection to its target of then. */
async function startBalancer(firstTarget: string) {
	const sockets = new Set<Socket>();
	const balancer = { target: firstTarget, url: "", close: () => {} };
	const server: Server = createServer({ allowHalfOpen: true }, (client) => {
		const upstream = connectTcp({
			port: Number(new URL(balancer.target).port),
			host: "127.0.0.1",
			allowHalfOpen: true,
		});
		for (const [from, to] of [
			[client, upstream],
			[upstream, client],
		] as const) {
			sockets.add(from);
			from.pipe(to);
			from.on("error", () => to.destroy()).on("close", () => sockets.delete(from));
		}
	});
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	balancer.url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
	balancer.close = () => {
		server.close();
		for (const socket of sockets) socket.destroy();
	};
	return balancer;
}

async function readiness({ httpUrl }: ServiceProcess): Promise<number> {
	const response = await fetch(`${httpUrl}/readyz`, { headers: { connection: "close" } });
	await response.body?.cancel();
	return response.status;
}

async function storedIds(): Promise<Set<string>> {
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	const { rows } = await admin.query<{ id: string }>(
		"SELECT id FROM audit.events WHERE tenant_id = $1 AND action = 'user.login'",
		[TENANT],
	);
	await admin.end();
	return new Set(rows.map(({ id }) => id));
}
