import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Readiness } from "../../src/rpc/route-health.ts";
import { FLAG, frame, headerBlock, RawHttp2, requestHeaders, TYPE } from "../support/http2-frames.ts";
import { type RpcService, startDoors, startRpcService } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";

let service: RpcService;
let key: string;

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
});
afterAll(() => service.end());
// An uncaught error in the service would fail this file: it runs in the same process. It must go on answering, too.
afterEach(async () => {
	expect((await fetch(`${service.httpUrl}/livez`)).status).toBe(200);
});

const RPC = "/audit.v1.AuditService/WriteEvent";

describe("a request whose authority is no authority is answered with 400", () => {
	const authorities = ["[", "a b", "", "x:99999", "[::1", "a/b@", "\u00e4%"];
	test.each(authorities)("Host: %j over HTTP/1.1", async (host) => {
		const request = `POST ${RPC} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`;
		expect(await rawHttp1(`${request}`)).toMatch(/^HTTP\/1\.1 400 /);
	});

	test("HTTP/1.0 without Host", async () => {
		expect(await rawHttp1(`POST ${RPC} HTTP/1.0\r\nContent-Length: 0\r\n\r\n`)).toMatch(/^HTTP\/1\.1 400 /);
	});

	test("HTTP/1.1 without Host", async () => {
		const answer = await rawHttp1(`POST ${RPC} HTTP/1.1\r\nContent-Length: 0\r\n\r\n`);
		expect(answer).toMatch(/^HTTP\/1\.1 400 /);
		const requestId = /x-request-id: ([0-9a-f-]{36})\r\n/.exec(answer)?.[1];
		expect(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n")))).toEqual({
			error: {
				code: "invalid_argument",
				reason: "MALFORMED_AUTHORITY",
				message: "Host or :authority must be a host name or address, with or without a port",
				violations: [],
				request_id: requestId,
			},
		});
	});

	test.each(["[", "x:99999"])(":authority %j over HTTP/2, on both ports", async (authority) => {
		for (const url of [service.httpUrl, service.grpcUrl]) {
			const { status, headers } = await http2Request(url, { ":authority": authority });
			expect(status).toBe(400);
			expect(headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
		}
	});
});

test("two hosts are none, in either order", async () => {
	for (const hosts of ["Host: a\r\nHost: b", "Host: b\r\nHost: a"]) {
		const answer = await rawHttp1(`POST ${RPC} HTTP/1.1\r\n${hosts}\r\nContent-Length: 0\r\n\r\n`);
		expect(answer).toMatch(/^HTTP\/1\.1 400 [^]*"MALFORMED_AUTHORITY"/);
	}
});

describe("two headers of one name with different credentials are refused like none, whichever comes first", () => {
	const path = "/v1/audit/events?tenant_id=acme";
	const pairs = (name: string) => {
		const good = name === "authorization" ? `Bearer ${key}` : key;
		return [
			[good, "Bearer nobody"],
			["Bearer nobody", good],
		] as const;
	};

	test.each(["authorization", "x-api-key"])("%s over HTTP/1.1", async (name) => {
		for (const [first, second] of pairs(name)) {
			const headers = `Host: a\r\nConnection: close\r\n${name}: ${first}\r\n${name}: ${second}\r\n`;
			expect(await rawHttp1(`GET ${path} HTTP/1.1\r\n${headers}\r\n`)).toMatch(/^HTTP\/1\.1 401 /);
		}
	});

	test.each(["authorization", "x-api-key"])("%s over HTTP/2, REST and Connect", async (name) => {
		const raw = new RawHttp2(service.httpUrl);
		let stream = -1;
		for (const [first, second] of pairs(name)) {
			for (const more of [{ ":path": path }, { ":method": "POST", ":path": RPC, "content-type": "application/json" }]) {
				stream += 2;
				const block = [requestHeaders(path, { ...more, [name]: first }), headerBlock({ [name]: second })];
				raw.write(frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, stream, Buffer.concat(block)));
				const text = () =>
					Buffer.concat(raw.of(TYPE.data).flatMap((one) => (one.stream === stream ? one.payload : [])));
				await waitFor(() => text().includes("}"), { what: "the answer" });
				expect(text().toString()).toMatch(/"code":"unauthenticated"/);
			}
		}
		raw.socket.destroy();
	});
});

describe("what is not HTTP ends with its connection", () => {
	test.each([
		["garbage", "\0\x01\x02 garbage\r\n\r\n"],
		["a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
		["an HTTP/2 preface followed by garbage", `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${"garbage".repeat(40)}`],
		["two lengths", `POST ${RPC} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}`],
		["headers beyond the limit", `GET / HTTP/1.1\r\nHost: a\r\nx: ${"y".repeat(20_000)}\r\n\r\n`],
		["a line break in a header", "GET / HTTP/1.1\r\nHost: a\r\nx: a\nb: c\0\r\n\r\n"],
	])("%s", async (_, bytes) => {
		await rawHttp1(bytes);
	});

	test("a connection that is closed in the middle of its preface", async () => {
		const socket = connectTcp(portOf(service.httpUrl), "127.0.0.1");
		socket.write("PRI * HT");
		socket.end();
		socket.resume();
		await once(socket, "close");
	});

	test("a caller that leaves in the middle of its body", async () => {
		const socket = connectTcp(portOf(service.httpUrl), "127.0.0.1");
		const head = `POST ${RPC} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\n`;
		socket.write(`${head}Content-Length: 1000\r\n\r\n{"event":`);
		await once(socket, "connect");
		socket.resetAndDestroy();
	});

	test("a stream that is reset in the middle of its body", async () => {
		const session = connectHttp2(service.grpcUrl);
		const stream = session.request({ ":method": "POST", ":path": RPC, "content-type": "application/grpc+proto" });
		stream.on("error", () => {});
		stream.write(Buffer.from([0, 0, 0, 3, 0xe8, 1]));
		stream.close(constants.NGHTTP2_CANCEL);
		await once(stream, "close");
		await closeSession(session);
	});
});

describe("HTTP/1.1 and HTTP/2 share the first port", () => {
	test("a preface that comes byte by byte is recognised", async () => {
		const socket = connectTcp({ port: portOf(service.httpUrl), host: "127.0.0.1", noDelay: true });
		// A SETTINGS frame follows; a server that speaks HTTP/2 answers with its own.
		const bytes = Buffer.concat([
			Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
			Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
		]);
		for (const byte of bytes) await new Promise((resolve) => socket.write(Buffer.of(byte), resolve));
		const [answer] = (await once(socket, "data")) as [Buffer];
		expect(answer[3]).toBe(4);
		socket.destroy();
	});

	test("a request whose first letters are the preface's is not taken for HTTP/2", async () => {
		expect(await rawHttp1("PROPFIND /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).toMatch(
			/^HTTP\/1\.1 405 /,
		);
	});

	test("the second port speaks HTTP/2 only, and the RPCs only", async () => {
		expect((await http2Request(service.grpcUrl, { ":path": "/livez", ":method": "GET" })).status).toBe(404);
		await expect(fetch(`${service.grpcUrl}/livez`)).rejects.toThrow();
	});
});

describe("every response has a request id", () => {
	test("the caller's, if it is fit to be repeated", async () => {
		const response = await fetch(`${service.httpUrl}/livez`, { headers: { "x-request-id": "req-1.2:3" } });
		expect(response.headers.get("x-request-id")).toBe("req-1.2:3");
	});

	test.each(["with space", "x".repeat(129), "<script>"])("a new one instead of %j", async (id) => {
		const response = await fetch(`${service.httpUrl}/nowhere`, { headers: { "x-request-id": id } });
		expect(response.status).toBe(404);
		expect(response.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
	});
});

describe("HTTP methods and types", () => {
	test.each([
		["GET", RPC, 405],
		["PUT", RPC, 405],
		["HEAD", RPC, 405],
		["OPTIONS", RPC, 405],
		["POST", "/audit.v1.AuditService/Nothing", 404],
		["POST", "//", 404],
		["GET", "/%zz", 404],
		["HEAD", "/livez", 200],
		["OPTIONS", "/v1/audit/events", 204],
	])("%s %s is %i", async (method, path, status) => {
		expect((await fetch(service.httpUrl + path, { method })).status).toBe(status);
	});

	test.each(["text/plain", "application/json; charset=utf-16"])("a body of type %s is refused", async (type) => {
		const response = await fetch(service.httpUrl + RPC, {
			method: "POST",
			body: "{}",
			headers: { "content-type": type },
		});
		expect(response.status).toBe(415);
		expect(await response.json()).toMatchObject({
			error: {
				code: "invalid_argument",
				reason: "UNSUPPORTED_MEDIA_TYPE",
				request_id: response.headers.get("x-request-id"),
			},
		});
	});
});

test("an RPC that only reads is no GET: what is asked for stays out of URLs", async () => {
	const params = new URLSearchParams({ connect: "v1", encoding: "json", message: '{"tenantId":"acme"}' });
	const url = `${service.httpUrl}/audit.v1.AuditService/Query?${params}`;
	const response = await fetch(url, { headers: { authorization: `Bearer ${key}` } });
	expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
	expect(await response.json()).toMatchObject({ error: { reason: "METHOD_NOT_ALLOWED" } });
});

describe("health", () => {
	test("livez and readyz need no key and name what is degraded", async () => {
		const ready = await fetch(`${service.httpUrl}/readyz`);
		expect(ready.status).toBe(200);
		expect(await ready.json()).toEqual({
			ready: true,
			degraded: expect.arrayContaining([expect.stringMatching(/^nats/)]),
		});
	});
});

test("however many ask whether the service is ready, one check a second is made", async () => {
	let checks = 0;
	let answer: (readiness: Readiness) => void = () => {};
	const doors = await startDoors({
		readiness: () => {
			checks += 1;
			return new Promise((resolve) => {
				answer = resolve;
			});
		},
	});
	const ask = async () => (await (await fetch(`${doors.httpUrl}/readyz`)).json()) as { degraded: string[] };
	const first = [ask(), ask(), ask()];
	await waitFor(() => checks > 0);
	answer({ ready: true, degraded: ["first"] });
	expect(await Promise.all([...first, ask()])).toEqual(Array(4).fill({ ready: true, degraded: ["first"] }));
	expect(checks).toBe(1);
	await waitFor(
		async () => {
			const asked = ask();
			await Promise.race([asked, waitFor(() => checks > 1)]);
			if (checks > 1) answer({ ready: true, degraded: ["second"] });
			return (await asked).degraded[0] === "second";
		},
		{ what: "a second check" },
	);
	await doors.close();
});

function portOf(url: string): number {
	return Number(new URL(url).port);
}

/** Sends bytes and gives everything that comes back until the server or, after an answer, this end closes. */
function rawHttp1(bytes: string): Promise<string> {
	return new Promise((resolve, reject) => {
		const socket = connectTcp(portOf(service.httpUrl), "127.0.0.1");
		let answer = "";
		socket.setEncoding("latin1");
		socket.on("data", (text: string) => {
			answer += text;
			if (answer.includes("\r\n\r\n")) socket.end();
		});
		socket.on("close", () => resolve(answer));
		socket.on("error", (error: NodeJS.ErrnoException) => {
			if (error.code !== "ECONNRESET" && error.code !== "EPIPE") reject(error);
		});
		socket.write(Buffer.from(bytes, "latin1"));
	});
}

async function http2Request(url: string, headers: Record<string, string>) {
	const session = connectHttp2(url);
	try {
		const stream = session.request({ ":method": "POST", ":path": RPC, ...headers }, { endStream: true });
		const [response] = (await once(stream, "response")) as [Record<string, unknown>];
		stream.resume();
		await once(stream, "close");
		return { status: response[":status"], headers: response };
	} finally {
		await closeSession(session);
	}
}

function closeSession(session: ClientHttp2Session): Promise<void> {
	return new Promise((resolve) => session.close(resolve));
}
