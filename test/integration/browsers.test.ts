import { once } from "node:events";
import { connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { createServer, request as httpsRequest, type RequestOptions } from "node:https";
import { type AddressInfo, connect as connectTcp } from "node:net";
import { text } from "node:stream/consumers";
import type { ConnectionOptions } from "node:tls";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { createLogger } from "../../src/logger.ts";
import { CallLog } from "../../src/rpc/call-log.ts";
import { ClientAddresses } from "../../src/rpc/client-address.ts";
import { guard } from "../../src/rpc/guard.ts";
import { Origins } from "../../src/rpc/origins.ts";
import { Quota } from "../../src/rpc/quota.ts";
import { routeNowhere } from "../../src/rpc/route-rest.ts";
import { Telemetry } from "../../src/telemetry.ts";
import { startDoors } from "../support/rpc-service.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase } from "../support/services.ts";

const RPC = "/audit.v1.AuditService/Query";
const EVENTS = "/v1/audit/events";
const LISTED = "https://audit.example.com";
const FOREIGN = "https://evil.example";
const JSON_TYPE = { "content-type": "application/json" };

let doors: Awaited<ReturnType<typeof startDoors>>;
let key: string;

beforeAll(async () => {
	doors = await startDoors({ corsOrigins: [LISTED, "http://localhost:5173"] });
	key = doors.createKey("operator");
});
afterAll(() => doors.close());

const bearer = () => ({ authorization: `Bearer ${key}` });

/** What every response must have. */
const SAFE = {
	"x-content-type-options": "nosniff",
	"cache-control": "no-store",
	"referrer-policy": "no-referrer",
	"content-security-policy": "default-src 'none'; frame-ancestors 'none'",
	"cross-origin-resource-policy": "same-origin",
	vary: expect.stringMatching(/^origin\b/),
};

interface Asked {
	readonly method?: string;
	readonly headers?: Record<string, string>;
	readonly body?: string;
}

async function ask(path: string, { method = "GET", headers = {}, body }: Asked = {}) {
	const response = await fetch(doors.httpUrl + path, { method, headers, ...(body !== undefined && { body }) });
	const json = JSON.parse((await response.text()) || "{}") as { error?: { reason: string } };
	return { status: response.status, headers: Object.fromEntries(response.headers), reason: json.error?.reason };
}

async function askHttp2(url: string, headers: Record<string, string>): Promise<IncomingHttpHeaders> {
	const session = connectHttp2(url);
	const stream = session.request(headers);
	const [response] = (await once(stream, "response")) as [IncomingHttpHeaders];
	await text(stream);
	session.destroy();
	return response;
}

describe("every response tells browsers to do nothing with it", () => {
	test.each<[string, number, Asked]>([
		["/livez", 200, {}],
		["/readyz", 200, {}],
		["/readyz", 405, { method: "DELETE" }],
		["/nowhere", 404, {}],
		[EVENTS, 401, {}],
		[EVENTS, 204, { method: "OPTIONS" }],
		[EVENTS, 405, { method: "PUT" }],
		[EVENTS, 403, { headers: { origin: FOREIGN } }],
		[RPC, 401, { method: "POST", headers: JSON_TYPE, body: "{}" }],
		[RPC, 405, {}],
		[RPC, 415, { method: "POST", headers: { "content-type": "text/plain" }, body: "{}" }],
	])("%s %i %j", async (path, status, asked) => {
		const answer = await ask(path, asked);
		expect(answer).toMatchObject({ status, headers: SAFE });
		expect(answer.headers).not.toHaveProperty("strict-transport-security");
	});

	test("to headers that are too large", async () => {
		const headers = { "x-filler": "x".repeat(16_370) };
		expect(await ask("/livez", { headers })).toMatchObject({ status: 431, headers: SAFE });
	});

	test("an answered call, over REST, Connect and gRPC-Web", async () => {
		expect(await ask(`${EVENTS}?tenant_id=a`, { headers: bearer() })).toMatchObject({ status: 503, headers: SAFE });
		const connect = { method: "POST", headers: { ...bearer(), ...JSON_TYPE }, body: '{"tenantId":"a"}' };
		expect(await ask(RPC, connect)).toMatchObject({ status: 503, headers: SAFE });
		const type = { "content-type": "application/grpc-web+proto" };
		const response = await fetch(doors.httpUrl + RPC, {
			method: "POST",
			headers: { ...bearer(), ...type },
			body: new Uint8Array([0, 0, 0, 0, 0]),
		});
		await response.arrayBuffer();
		expect(Object.fromEntries(response.headers)).toMatchObject(SAFE);
	});

	test("/metrics", async () => {
		const response = await fetch(`${doors.httpUrl}/metrics`);
		expect(await response.text()).toContain("audit_call_seconds");
		expect(Object.fromEntries(response.headers)).toMatchObject(SAFE);
	});

	test("gRPC, whose trailers still come", async () => {
		const headers = { ":method": "POST", ":path": RPC, "content-type": "application/grpc", te: "trailers" };
		expect(await askHttp2(doors.grpcUrl, headers)).toMatchObject(SAFE);
		const client = createClient(AuditService, createGrpcTransport({ baseUrl: doors.grpcUrl }));
		const answer = client.query({ tenantId: "a" }, { headers: bearer() });
		await expect(answer).rejects.toMatchObject({ code: Code.Unavailable });
	});

	test.each(["httpUrl", "grpcUrl"] as const)("what Node would answer by itself over HTTP/2 (%s)", async (port) => {
		const connect = await askHttp2(doors[port], { ":method": "CONNECT", ":authority": "a:80" });
		expect(connect).toMatchObject({ ":status": 404, ...SAFE });
		const expecting = await askHttp2(doors[port], { ":path": "/nowhere", expect: "a miracle" });
		expect(expecting).toMatchObject({ ":status": 404, ...SAFE });
	});

	test.each([
		["GET /nowhere HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\nConnection: close\r\n\r\n", 404],
		["GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nbad header\r\n\r\n", 400],
		["GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400],
	])("and over HTTP/1.1: %j", async (request, status) => {
		const socket = connectTcp(Number(new URL(doors.httpUrl).port), "127.0.0.1");
		socket.write(request);
		const [head = ""] = (await text(socket)).split("\r\n\r\n");
		expect(head).toContain(`HTTP/1.1 ${status} `);
		const lines = head.split("\r\n").map((line) => line.split(/: (.*)/, 2));
		expect(Object.fromEntries(lines.map(([name = "", value]) => [name.toLowerCase(), value]))).toMatchObject(SAFE);
	});

	test("HSTS where the connection is TLS", async () => {
		const handle = guard(routeNowhere, {
			log: new CallLog(createLogger("silent")),
			telemetry: new Telemetry(),
			stalledMs: 10_000,
			calls: new Quota(10, 10),
			addresses: new ClientAddresses([]),
			origins: new Origins([]),
		});
		// A key that both sides know saves a certificate.
		const psk = { ciphers: "PSK", maxVersion: "TLSv1.2" } as const;
		const server = createServer({ ...psk, pskCallback: () => Buffer.from("shared") }, handle);
		await once(server.listen(0, "127.0.0.1"), "listening");
		const { port } = server.address() as AddressInfo;
		const options: RequestOptions & ConnectionOptions = {
			...psk,
			host: "127.0.0.1",
			port,
			pskCallback: () => ({ identity: "a", psk: Buffer.from("shared") }),
			checkServerIdentity: () => undefined,
			agent: false,
		};
		const asking = httpsRequest(options).end();
		const [response] = (await once(asking, "response")) as [{ headers: IncomingHttpHeaders; resume(): void }];
		expect(response.headers).toMatchObject({ ...SAFE, "strict-transport-security": "max-age=63072000" });
		response.resume();
		server.close();
	});
});

describe("web pages", () => {
	const preflight = (path: string, origin: string, method = "POST") =>
		ask(path, { method: "OPTIONS", headers: { origin, "access-control-request-method": method } });

	test.each([RPC, EVENTS, `${EVENTS}:batch`, "/audit.v1.AuditService/WriteEvent"])(
		"of a listed origin may call %s with what Connect, gRPC-Web and REST need",
		async (path) => {
			const { status, headers } = await preflight(path, LISTED);
			expect(status).toBe(204);
			expect(headers).toMatchObject({ ...SAFE, "access-control-allow-origin": LISTED });
			expect(headers["access-control-allow-methods"]).toBe("GET, HEAD, POST");
			const allowed = headers["access-control-allow-headers"]?.toLowerCase().split(",");
			expect(allowed).toEqual(
				expect.arrayContaining(
					"authorization x-api-key content-type connect-protocol-version connect-timeout-ms x-grpc-web x-user-agent grpc-timeout x-request-id traceparent".split(
						" ",
					),
				),
			);
			expect(headers).not.toHaveProperty("access-control-allow-credentials");
		},
	);

	test("of a listed origin may read answers, and what is wrong with their requests", async () => {
		for (const asked of [
			ask(`${EVENTS}?tenant_id=a`, { headers: { ...bearer(), origin: LISTED } }),
			ask(EVENTS, { headers: { origin: LISTED } }),
			ask("/nowhere", { headers: { origin: LISTED } }),
			ask(RPC, { method: "POST", headers: { ...JSON_TYPE, ...bearer(), origin: LISTED }, body: "{}" }),
		]) {
			const { headers } = await asked;
			expect(headers["access-control-allow-origin"]).toBe(LISTED);
			const exposed = headers["access-control-expose-headers"]?.toLowerCase().split(",");
			const needed = "x-request-id retry-after grpc-status grpc-message grpc-status-details-bin".split(" ");
			expect(exposed).toEqual(expect.arrayContaining(needed));
		}
	});

	test.each([
		FOREIGN,
		"null",
		"*",
		`${LISTED}.evil.example`,
		`${LISTED}:8443`,
		"http://audit.example.com",
		"https://AUDIT.example.com",
		"http://localhost",
	])("of another origin (%s) are refused before who they are is asked, and read nothing", async (origin) => {
		const refused = { status: 403, reason: "ORIGIN_NOT_ALLOWED" };
		const asked = [
			preflight(RPC, origin),
			preflight(EVENTS, origin, "GET"),
			ask(EVENTS, { headers: { origin, authorization: "Bearer none" } }),
			ask(`${EVENTS}?tenant_id=a`, { headers: { ...bearer(), origin } }),
			ask(RPC, { method: "POST", headers: { ...JSON_TYPE, ...bearer(), origin }, body: '{"tenantId":"a"}' }),
			ask("/livez", { headers: { origin } }),
		];
		for (const answer of await Promise.all(asked)) {
			expect(answer).toMatchObject(refused);
			expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control-"))).toEqual([]);
		}
		const overHttp2 = await askHttp2(doors.grpcUrl, { ":method": "POST", ":path": RPC, origin });
		expect(overHttp2).toMatchObject({ ":status": 403, ...SAFE });
	});

	test("of the service's own host may call", async () => {
		const { host, port } = new URL(doors.httpUrl);
		const status = async (origin: string) => (await ask("/livez", { headers: { origin } })).status;
		expect(await status(`http://${host}`)).toBe(200);
		// Behind a proxy that ends TLS.
		expect(await status(`https://${host}`)).toBe(200);
		expect(await status("http://127.0.0.1:1")).toBe(403);
		expect(await status(`ftp://${host}`)).toBe(403);
		expect(await status(`http://localhost:${port}`)).toBe(403);
	});

	test.each(["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""])(
		"cannot have a body of type %j, which browsers send without asking, read as a request",
		async (type) => {
			const body = new Blob(['{"action":"user.login","actor":{"id":"jane"},"tenant_id":"a"}']);
			for (const path of [EVENTS, `${EVENTS}:batch`, RPC]) {
				const headers = { ...bearer(), ...(type !== "" && { "content-type": type }) };
				const response = await fetch(doors.httpUrl + path, { method: "POST", headers, body });
				expect(await response.json()).toMatchObject({ error: { reason: "UNSUPPORTED_MEDIA_TYPE" } });
				expect(response.status).toBe(415);
			}
		},
	);

	test("are listed in AUDIT_CORS_ORIGINS", async () => {
		const database = await createTestDatabase();
		const service = await startService({
			DATABASE_URL: database.url,
			AUDIT_CORS_ORIGINS: `${LISTED}, https://b.example`,
		});
		const status = async (origin: string) =>
			(await fetch(`${service.httpUrl}/livez`, { headers: { origin } })).headers.get("access-control-allow-origin");
		expect([await status(LISTED), await status("https://b.example"), await status(FOREIGN)]).toEqual([
			LISTED,
			"https://b.example",
			null,
		]);
		await service.stop();
		await database.drop();
	});
});
