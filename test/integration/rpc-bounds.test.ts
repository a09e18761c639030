import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import type { QueryPage } from "../../src/query/query.ts";
import type { DoorLimits } from "../../src/rpc/limits.ts";
import { startDoors } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";

const MIB = 1024 * 1024;
const RPC = "/audit.v1.AuditService";
const EVENTS = "/v1/audit/events";
const EVENT = { tenantId: "acme", action: "user.login", actor: { id: "jane" } };
const reject = () => Promise.reject(new Error("not asked for"));
const asked = { stated: {}, canonical: "" };
const closers: (() => unknown)[] = [];

afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

async function doorsWith(limits: Partial<DoorLimits>) {
	const doors = await startDoors({ limits: { drainMs: 50, ...limits } });
	closers.push(() => doors.close());
	return doors;
}

describe("what unfinished requests took of the budget comes back", () => {
	const limits = { inFlightBytes: 8 * MIB, inFlightBytesPerKey: 8 * MIB, writeMs: 1_000 };

	test("over HTTP/1.1 when they are answered, and what they send afterwards takes nothing", async () => {
		const doors = await doorsWith(limits);
		const key = doors.createKey("writer");
		const sockets = await Promise.all(
			[1, 2, 3].map(async () => {
				const socket = await open(doors.httpUrl);
				socket.write(head(key, EVENTS, 4 * MIB - 100));
				const status = statusOf(socket);
				socket.write(Buffer.alloc(100_000, " "));
				return { socket, status };
			}),
		);
		expect(await Promise.all(sockets.map(({ status }) => status))).toEqual([504, 504, 504]);
		for (const { socket } of sockets) {
			await new Promise<void>((resolve) => socket.write(Buffer.alloc(4 * MIB - 200_000, " "), () => resolve()));
		}
		await expectRoomFor(doors.httpUrl, key, 4 * MIB);
		expect(await write(doors.httpUrl, key, 4 * MIB)).toBe("REACHED");
	});

	test("over HTTP/2 at the deadline, even if the stream is left half-open", async () => {
		const doors = await doorsWith(limits);
		const key = doors.createKey("writer");
		for (const [path, type] of [
			[`${RPC}/WriteEvent`, "application/proto"],
			[`${RPC}/WriteEvent`, "application/grpc+proto"],
			[EVENTS, "application/json"],
		] as const) {
			const session = openSession(doors.httpUrl);
			const streams = [1, 2].map(() => startStream(session, path, key, { "content-type": type }));
			for (const stream of streams) stream.write(envelope(4 * MIB - 100, 4 * MIB - 1_000));
			const ends = await Promise.all(streams.map(endOf));
			for (const end of ends) {
				expect(end).toEqual({
					status: type === "application/grpc+proto" ? 200 : 504,
					grpcStatus: type === "application/grpc+proto" ? "4" : undefined,
					rstCode: constants.NGHTTP2_NO_ERROR,
				});
			}
			expect(await write(doors.httpUrl, key, 4 * MIB)).toBe("REACHED");
		}
	});

	test("at the caller's own deadline, if that is earlier", async () => {
		const doors = await doorsWith({});
		const stream = startStream(openSession(doors.grpcUrl), `${RPC}/WriteEvent`, doors.createKey("writer"), {
			"content-type": "application/proto",
			"connect-timeout-ms": "100",
		});
		stream.write("x");
		expect((await endOf(stream)).status).toBe(504);
	});

	test("over HTTP/2 when they are turned away", async () => {
		const doors = await doorsWith({ ...limits, writeMs: 60_000 });
		const key = doors.createKey("writer");
		const session = openSession(doors.grpcUrl);
		const stream = startStream(session, `${RPC}/WriteEvent`, key, { "content-type": "application/proto" });
		stream.write(Buffer.alloc(4 * MIB + 10_000));
		expect(await endOf(stream)).toMatchObject({ status: 429, rstCode: constants.NGHTTP2_NO_ERROR });
		expect(await write(doors.httpUrl, key, 4 * MIB)).toBe("REACHED");
	});
});

describe("who may not call this at all is not listened to", () => {
	test.each([EVENTS, `${EVENTS}:batch`, `${RPC}/WriteEvent`, `${RPC}/BatchWrite`])("%s", async (path) => {
		const doors = await doorsWith({});
		const socket = await open(doors.httpUrl);
		const status = statusOf(socket);
		socket.write(head(doors.createKey("reader"), path, 4 * MIB));
		expect(await status).toBe(403);
	});
});

test("one key's requests cannot turn away another's", async () => {
	const doors = await doorsWith({});
	const greedy = doors.createKey("writer");
	const session = openSession(doors.grpcUrl);
	const streams = [1, 2, 3, 4, 5, 6].map(() =>
		startStream(session, `${RPC}/WriteEvent`, greedy, { "content-type": "application/proto" }),
	);
	for (const stream of streams) stream.write(Buffer.alloc(4 * MIB - 1));
	expect(await Promise.race(streams.map(endOf))).toMatchObject({ status: 429 });
	expect(await write(doors.httpUrl, doors.createKey("writer"), 4 * MIB)).toBe("REACHED");
});

test("compressed requests count as what they may become", async () => {
	const doors = await doorsWith({ inFlightBytesPerKey: 6 * MIB });
	const key = doors.createKey("writer");
	const zipped = gzipSync(JSON.stringify({ events: [], mode: `${"x".repeat(4 * MIB - 100)}` }));
	for (const [path, headers] of [
		[`${RPC}/WriteEvent`, { "content-type": "application/proto", "content-encoding": "gzip" }],
		[`${RPC}/WriteEvent`, { "content-type": "application/grpc+proto", "grpc-encoding": "gzip" }],
		[EVENTS, { "content-type": "application/json", "content-encoding": "GZIP" }],
	] as const) {
		const isGrpc = "grpc-encoding" in headers;
		const session = openSession(doors.httpUrl);
		const streams = [1, 2].map(() => startStream(session, path, key, headers));
		for (const stream of streams) stream.write(zipped);
		// One of them has its 4 MiB of the share; for the other there is no room.
		const turnedAway = await Promise.race(streams.map(endOf));
		expect(isGrpc ? turnedAway.grpcStatus : turnedAway.status).toBe(isGrpc ? "8" : 429);
		session.destroy();
		await expectRoomFor(doors.httpUrl, key, 4 * MIB);
	}
});

describe("that a body is compressed is seen whatever the header", () => {
	test("a coding that Connect does not go by hides nothing", async () => {
		const doors = await doorsWith({ inFlightBytesPerKey: 6 * MIB });
		const key = doors.createKey("writer");
		const zipped = gzipSync(Buffer.alloc(4 * MIB - 100, " "));
		const session = openSession(doors.httpUrl);
		const headers = { "content-type": "application/proto", "content-encoding": "gzip", "grpc-encoding": "identity" };
		const streams = [1, 2].map(() => startStream(session, `${RPC}/WriteEvent`, key, headers));
		for (const stream of streams) stream.write(zipped);
		expect((await Promise.race(streams.map(endOf))).status).toBe(429);
	});

	// Names of codings have no case.
	test.each([
		["REST", EVENTS, { "content-type": "application/json", "content-encoding": "GZIP" }, JSON.stringify(EVENT)],
		["Connect", `${RPC}/WriteEvent`, { "content-encoding": "GZip" }, JSON.stringify({ event: EVENT })],
	])("%s takes gzip under any spelling, and no other", async (_, path, headers, text) => {
		const doors = await doorsWith({});
		const key = doors.createKey("writer");
		const send = async (coding: string, body: Buffer) => {
			const session = openSession(doors.httpUrl);
			const type = { "content-type": "application/json" };
			const stream = startStream(session, path, key, { ...type, "content-encoding": coding });
			stream.end(body);
			return (await endOf(stream)).status;
		};
		// Got as far as there is anything behind the doors.
		expect(await send(headers["content-encoding"], gzipSync(text))).toBe(503);
		for (const [coding, compress] of [
			["br", brotliCompressSync],
			["deflate", deflateSync],
		] as const) {
			expect(await send(coding, compress(text))).toBe(path === EVENTS ? 400 : 501);
		}
	});

	test("gRPC takes gzip under any spelling, and no other", async () => {
		const doors = await doorsWith({});
		const key = doors.createKey("writer");
		const send = async (coding: string, body: Buffer) => {
			const headers = { "content-type": "application/grpc+json", "grpc-encoding": coding };
			const stream = startStream(openSession(doors.grpcUrl), `${RPC}/WriteEvent`, key, headers);
			stream.end(Buffer.concat([Buffer.of(1), Buffer.from(Uint32Array.of(body.length).buffer).swap32(), body]));
			return (await endOf(stream)).grpcStatus;
		};
		const text = JSON.stringify({ event: EVENT });
		expect(await send("GZIP", gzipSync(text))).toBe("14");
		expect(await send("br", brotliCompressSync(text))).toBe("12");
	});

	test("an answer of 1 KiB or more is compressed for who takes that, under any spelling", async () => {
		const doors = await startDoors({
			query: { search: () => Promise.resolve({ events: [], nextPageToken: "x".repeat(1_100), asked }), get: reject },
		});
		closers.push(() => doors.close());
		const key = doors.createKey("reader");
		const ask = async (path: string, method: string, coding: string) => {
			const headers = { ":method": method, "accept-encoding": coding, "content-type": "application/json" };
			const stream = startStream(openSession(doors.httpUrl), path, key, headers);
			stream.end(method === "POST" ? '{"tenantId":"a"}' : undefined);
			const [response] = (await once(stream, "response")) as [Record<string, unknown>];
			stream.close();
			return response["content-encoding"];
		};
		for (const [path, method] of [
			[`${RPC}/Query`, "POST"],
			[`${EVENTS}?tenant_id=a`, "GET"],
		] as const) {
			expect(await ask(path, method, "br, GZIP")).toBe("gzip");
			expect(await ask(path, method, "br, deflate")).toBeUndefined();
		}
	});
});

describe("answers have a room of their own", () => {
	/** A service whose searches say when they begin, and end when they are told. */
	async function searchingDoors(limits: Partial<DoorLimits>) {
		const begun: (() => void)[] = [];
		const search = () =>
			new Promise<QueryPage>((resolve) => {
				begun.push(() => resolve({ events: [], nextPageToken: "", asked }));
			});
		const doors = await startDoors({ query: { search, get: reject }, limits });
		closers.push(() => doors.close());
		const ask = (key: string) =>
			fetch(`${doors.httpUrl}${EVENTS}?tenant_id=a`, { headers: { authorization: `Bearer ${key}` } }).then(
				({ status }) => status,
			);
		return { url: doors.httpUrl, begun, ask, key: () => doors.createKey("reader") };
	}

	test("one that has no room yet waits, and another key's does not", async () => {
		const { begun, ask, key } = await searchingDoors({ answerBytes: 12 * MIB, answerBytesPerKey: 8 * MIB });
		const [greedy, other] = [key(), key()];
		const answers = [ask(greedy), ask(greedy), ask(greedy)];
		await waitFor(() => begun.length === 2, { what: "two searches" });
		answers.push(ask(other));
		await waitFor(() => begun.length === 3, { what: "the other key's search" });
		begun.shift()?.();
		await waitFor(() => begun.length === 3, { what: "the one that waited" });
		for (const end of begun) end();
		expect(await Promise.all(answers)).toEqual([200, 200, 200, 200]);
	});

	test("what gave up waiting takes nothing", async () => {
		const { url, begun, ask, key } = await searchingDoors({ answerBytes: 4 * MIB, answerBytesPerKey: 4 * MIB });
		const reader = key();
		const first = ask(reader);
		await waitFor(() => begun.length === 1, { what: "the first search" });
		const stream = startStream(openSession(url), `${RPC}/Query`, reader, {
			"content-type": "application/json",
			"connect-timeout-ms": "100",
		});
		stream.end('{"tenantId":"a"}');
		expect((await endOf(stream)).status).toBe(504);
		begun[0]?.();
		expect(await first).toBe(200);
		const again = ask(reader);
		await waitFor(() => begun.length === 2, { what: "room for another" });
		begun[1]?.();
		expect(await again).toBe(200);
	});
});

test("an address has so many calls at one time; one more is turned away unseen, and may be sent again", async () => {
	const doors = await startDoors({
		query: { search: () => new Promise(() => {}), get: reject },
		limits: { calls: 100, callsPerAddress: 2, drainMs: 50 },
	});
	closers.push(() => doors.close());
	const key = doors.createKey("reader");
	const session = openSession(doors.httpUrl);
	const search = () => startStream(session, `${EVENTS}?tenant_id=a`, key, { ":method": "GET" });
	const busy = [search(), search()];
	// HTTP/2 keeps the order.
	const refused = search();
	await new Promise((resolve) => refused.once("close", resolve));
	expect(refused.rstCode).toBe(constants.NGHTTP2_REFUSED_STREAM);
	expect((await fetch(`${doors.httpUrl}/livez`)).status).toBe(429);

	busy[0]?.close();
	await waitFor(async () => (await fetch(`${doors.httpUrl}/livez`)).status === 200, { what: "room for a call" });
});

describe("a connection whose request was too large is fit for the next one", () => {
	test.each([EVENTS, `${RPC}/WriteEvent`])("%s", async (path) => {
		const doors = await doorsWith({});
		const key = doors.createKey("writer");
		const agent = new Agent({ keepAlive: true, maxSockets: 1 });
		closers.push(() => agent.destroy());
		const send = (size: number) =>
			new Promise<number | undefined>((resolve, reject) => {
				const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
				const request = httpRequest(doors.httpUrl + path, { method: "POST", agent, headers });
				request.on("response", (response: IncomingMessage) => {
					response.resume().on("end", () => resolve(response.statusCode));
				});
				request.on("error", reject).end(Buffer.alloc(size, " "));
			});
		const tooLarge = path === EVENTS ? 413 : 429;
		for (const size of [12 * MIB, 10, 12 * MIB, 10]) expect(await send(size)).toBe(size === 10 ? 400 : tooLarge);
	});
});

describe("an answer that nobody reads does not hold its connection for ever", () => {
	test("over HTTP/1.1", async () => {
		const doors = await doorsWith({ stalledMs: 500 });
		const socket = await open(doors.httpUrl);
		let isClosed = false;
		socket
			.on("error", () => {})
			.on("close", () => {
				isClosed = true;
			});
		socket.pause();
		// Answers pile up until the connection takes no more of them, nor of the requests.
		const requests = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
		while (socket.writableLength < MIB) {
			socket.write(requests);
			await new Promise((resolve) => setImmediate(resolve));
		}
		expect(isClosed).toBe(false);
		await waitFor(() => isClosed, { what: "the end of the connection" });
	});

	test("over HTTP/2", async () => {
		const doors = await doorsWith({ stalledMs: 300 });
		const session = openSession(doors.httpUrl, { settings: { initialWindowSize: 0 } });
		const stream = session.request({ ":path": "/livez" });
		stream.on("error", () => {});
		await new Promise((resolve) => stream.once("close", resolve));
		expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
	});
});

/** Sends a body of spaces, which is no JSON text but is read before that shows, and gives the answer's reason. */
async function write(url: string, key: string, size: number): Promise<string> {
	const padding = " ".repeat(size - 60);
	const body = JSON.stringify({ action: "user.login", actor: { id: "jane" } }) + padding;
	const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
	const response = await fetch(url + EVENTS, { method: "POST", headers, body });
	const { error } = (await response.json()) as { error: { reason: string } };
	return error.reason;
}

function expectRoomFor(url: string, key: string, size: number): Promise<unknown> {
	return waitFor(async () => (await write(url, key, size)) === "REACHED", { what: "room in the budget" });
}

async function open(url: string): Promise<Socket> {
	const socket = connectTcp(Number(new URL(url).port), "127.0.0.1");
	closers.push(() => socket.destroy());
	await once(socket, "connect");
	return socket;
}

function head(key: string, path: string, length: number): string {
	const lines = [`POST ${path} HTTP/1.1`, "Host: a", `Authorization: Bearer ${key}`, `Content-Length: ${length}`];
	return `${[...lines, "Content-Type: application/json"].join("\r\n")}\r\n\r\n`;
}

async function statusOf(socket: Socket): Promise<number> {
	const [answer] = (await once(socket, "data")) as [Buffer];
	socket.resume();
	return Number(/^HTTP\/1\.1 (\d+)/.exec(answer.toString("latin1"))?.[1]);
}

function openSession(url: string, options = {}): ClientHttp2Session {
	const session = connectHttp2(url, options);
	session.on("error", () => {});
	closers.push(() => session.destroy());
	return session;
}

function startStream(session: ClientHttp2Session, path: string, key: string, headers: Record<string, string>) {
	const stream = session.request(
		{ ":method": "POST", ":path": path, authorization: `Bearer ${key}`, ...headers },
		{ endStream: false },
	);
	stream.on("error", () => {});
	return stream;
}

/** gRPC's frame of a message of `size` bytes, of which only `sent` follow. */
function envelope(size: number, sent: number): Buffer {
	const bytes = Buffer.alloc(5 + sent);
	bytes.writeUInt32BE(size, 1);
	return bytes;
}

async function endOf(stream: ClientHttp2Stream) {
	let grpcStatus: unknown;
	stream.on("trailers", (trailers) => {
		grpcStatus = trailers["grpc-status"];
	});
	const closed = new Promise((resolve) => stream.once("close", resolve));
	const [response] = (await once(stream, "response")) as [Record<string, unknown>];
	grpcStatus ??= response["grpc-status"];
	stream.resume();
	await closed;
	return { status: response[":status"], grpcStatus, rstCode: stream.rstCode };
}
