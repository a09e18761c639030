import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import type { DoorLimits } from "../../src/rpc/limits.ts";
import { CODE, FLAG, frame, RawHttp2, requestHeaders, TYPE } from "../support/http2-frames.ts";
import { startDoors } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";

const closers: (() => unknown)[] = [];

afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

async function doorsWith(limits: Partial<DoorLimits> = {}) {
	const doors = await startDoors({ limits });
	closers.push(() => doors.close());
	return doors;
}

describe("one connection too many", () => {
	test("is closed, on whichever port, and the others are not; when one goes there is room again", async () => {
		const doors = await doorsWith({ connections: 3, connectionsPerAddress: 3 });
		const session = openSession(doors.grpcUrl);
		expect(await statusOverHttp2(session)).toBe(404);
		const kept = [await openTcp(doors.httpUrl), await openTcp(doors.httpUrl)] as const;
		await expectClosed(await openTcp(doors.httpUrl));
		// Not for its silence: the others have been silent for longer.
		expect(await isAnswered(kept[0])).toBe(true);
		await expectClosed(await openTcp(doors.grpcUrl));
		expect(await statusOverHttp2(session)).toBe(404);

		kept[0].destroy();
		await waitFor(() => isServed(doors.httpUrl), { what: "room for another" });
	});

	test("is one more than its address may have, too", async () => {
		const doors = await doorsWith({ connections: 100, connectionsPerAddress: 1 });
		const socket = await openTcp(doors.httpUrl);
		await expectClosed(await openTcp(doors.httpUrl));
		expect(await isAnswered(socket)).toBe(true);
		socket.destroy();
		await waitFor(() => isServed(doors.httpUrl), { what: "room for another" });
	});
});

describe("a connection that does not get to the point is closed", () => {
	const limits = { headersMs: 200 };

	test.each([
		["says nothing", ""],
		["begins like HTTP/2 and stops", "PRI * HT"],
		["does not end its request's headers", "GET /livez HTTP/1.1\r\nHost: a\r\nx-slow: "],
	])("one that %s", async (_, bytes) => {
		const doors = await doorsWith(limits);
		const socket = await openTcp(doors.httpUrl);
		socket.write(bytes);
		await expectClosed(socket);
	});

	test("one that says a byte now and then", async () => {
		const doors = await doorsWith(limits);
		for (const bytes of ["PRI * HTTP/2.0", `GET /livez HTTP/1.1\r\nHost: a\r\nx-slow: ${"y".repeat(1000)}`]) {
			const socket = await openTcp(doors.httpUrl);
			let i = 0;
			const timer = setInterval(() => i < bytes.length && socket.write(bytes[i++] as string), 20);
			await expectClosed(socket);
			clearInterval(timer);
			expect(i).toBeLessThan(bytes.length + 1);
		}
	});
});

describe("headers beyond the limits", () => {
	const large = "y".repeat(17_000);

	test("over HTTP/1.1 are answered with 431", async () => {
		const doors = await doorsWith();
		const request = httpRequest(`${doors.httpUrl}/livez`, { headers: { large } });
		request.on("error", () => {});
		const [response] = (await once(request.end(), "response")) as [IncomingMessage];
		expect(response.statusCode).toBe(431);
	});

	test("over HTTP/2 are refused, by a reset of their stream alone once the peer knows the limits", async () => {
		const doors = await doorsWith();
		for (const url of [doors.httpUrl, doors.grpcUrl]) {
			// The first peer never acknowledges the settings.
			const raw = openRaw(url);
			const block = requestHeaders("/nowhere", { large });
			raw.write(frame(TYPE.headers, FLAG.endStream, 1, block.subarray(0, 16_000)));
			raw.write(frame(TYPE.continuation, FLAG.endHeaders, 1, block.subarray(16_000)));
			await waitFor(() => raw.of(TYPE.data).length > 0, { what: "an answer" });
			expect(JSON.parse(raw.of(TYPE.data)[0]?.payload.toString() ?? "")).toMatchObject({
				error: { reason: "HEADERS_TOO_LARGE" },
			});

			const session = openSession(url);
			await settled(session);
			expect(await rstCodeOf(session, { large })).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
			const many = Object.fromEntries(Array.from({ length: 80 }, (_, i) => [`x-${i}`, "1"]));
			expect(await rstCodeOf(session, many)).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
			expect(await statusOverHttp2(session)).toBe(404);
		}
	});

	test("that go on for ever end their connection alone", async () => {
		const doors = await doorsWith();
		const other = openSession(doors.grpcUrl);
		expect(await statusOverHttp2(other)).toBe(404);
		const raw = openRaw(doors.grpcUrl);
		raw.write(frame(TYPE.headers, FLAG.endStream, 1, requestHeaders("/")));
		for (let i = 0; i < 1_000; i++) raw.write(frame(TYPE.continuation, 0, 1, Buffer.of(0x10, 1, 0x61, 1, 0x62)));
		await raw.ended;
		expect(await statusOverHttp2(other)).toBe(404);
	});
});

test("a request that says its length in two ways is refused", async () => {
	const doors = await doorsWith();
	const socket = await openTcp(doors.httpUrl);
	const lengths = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
	socket.write(
		`POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n${lengths}\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n`,
	);
	const [answer] = (await once(socket, "data")) as [Buffer];
	expect(answer.toString("latin1")).toMatch(/^HTTP\/1\.1 400 .*\r\nconnection: close\r\n/s);
	await expectClosed(socket);
});

describe("who begins calls only to cancel them", () => {
	const reset = (stream: number) =>
		Buffer.concat([
			frame(TYPE.headers, FLAG.endStream | FLAG.endHeaders, stream, requestHeaders("/readyz")),
			frame(TYPE.rst, 0, stream, Buffer.of(0, 0, 0, CODE.cancel)),
		]);

	// So that calls are not answered before they are cancelled.
	const busyDoors = async () => {
		const doors = await startDoors({ readiness: () => new Promise(() => {}) });
		closers.push(() => doors.close());
		return doors;
	};

	test("loses the connection, and nobody else notices", async () => {
		const doors = await busyDoors();
		for (const url of [doors.httpUrl, doors.grpcUrl]) {
			const other = openSession(url);
			expect(await statusOverHttp2(other)).toBeGreaterThan(0);
			const raw = openRaw(url);
			for (let i = 0; i < 10_000; i++) raw.write(reset(2 * i + 1));
			await raw.ended;
			// Node's HTTP/2 library may be the first to say so, with a code of its own.
			expect([CODE.enhanceYourCalm, CODE.internal]).toContain(raw.goaways[0]?.code);
			expect(await statusOverHttp2(other)).toBeGreaterThan(0);
		}
	});

	test("loses it before the library's own limit is reached", async () => {
		const doors = await busyDoors();
		const raw = openRaw(doors.httpUrl);
		for (let i = 0; i < 400; i++) raw.write(reset(2 * i + 1));
		await raw.ended;
		expect(raw.goaways[0]?.code).toBe(CODE.enhanceYourCalm);
	});

	test("may do so now and then", async () => {
		const doors = await busyDoors();
		const raw = openRaw(doors.httpUrl);
		for (let i = 0; i < 100; i++) raw.write(reset(2 * i + 1));
		raw.write(frame(TYPE.headers, FLAG.endStream | FLAG.endHeaders, 201, requestHeaders("/livez")));
		await waitFor(() => raw.frames.some(({ type, stream }) => type === TYPE.data && stream === 201));
		expect(raw.goaways).toEqual([]);
	});
});

describe("an HTTP/2 session without a call", () => {
	test("is ended after a while, with a GOAWAY that names the last call that was taken", async () => {
		const doors = await doorsWith({ idleMs: 1_000 });
		const raw = openRaw(doors.grpcUrl);
		raw.write(frame(TYPE.headers, FLAG.endStream | FLAG.endHeaders, 1, requestHeaders("/nowhere")));
		await raw.ended;
		expect(raw.of(TYPE.data).map(({ stream }) => stream)).toContain(1);
		expect(raw.goaways[0]).toEqual({ last: 1, code: CODE.noError });
	});

	test("is not while it has one", async () => {
		const doors = await startDoors({
			limits: { idleMs: 1_000 },
			query: { search: () => new Promise(() => {}), get: () => new Promise(() => {}) },
		});
		closers.push(() => doors.close());
		const busy = openRaw(doors.grpcUrl);
		const key = doors.createKey("reader");
		const headers = requestHeaders("/audit.v1.AuditService/Query", {
			":method": "POST",
			authorization: `Bearer ${key}`,
			"content-type": "application/json",
		});
		busy.write(frame(TYPE.headers, FLAG.endHeaders, 1, headers));
		busy.write(frame(TYPE.data, FLAG.endStream, 1, Buffer.from('{"tenantId":"a"}')));
		// Sessions that began later are sent away before it.
		for (const raw of [openRaw(doors.grpcUrl), openRaw(doors.grpcUrl)]) {
			await waitFor(() => raw.goaways.length > 0, { what: "GOAWAY" });
		}
		expect(busy.goaways).toEqual([]);
	});

	test("ends with its connection, even if the peer never closes its end", async () => {
		const doors = await doorsWith({ idleMs: 100, connections: 1, connectionsPerAddress: 1 });
		const raw = openRaw(doors.grpcUrl);
		await raw.ended;
		await waitFor(async () => !(await isRefused(doors.grpcUrl)), { what: "room for another" });
	});
});

describe("an HTTP/2 peer that has said nothing for a while is asked whether it lives", () => {
	test("and keeps its session if it answers", async () => {
		const doors = await doorsWith({ pingMs: 50, pongMs: 5_000 });
		const session = openSession(doors.grpcUrl);
		let pings = 0;
		session.on("ping", () => {
			pings += 1;
		});
		await waitFor(() => pings >= 3, { what: "three PINGs" });
		expect(await statusOverHttp2(session)).toBe(404);
	});

	test("and loses it if it does not, its calls and streams with it", async () => {
		const doors = await doorsWith({ pingMs: 50, pongMs: 50 });
		const raw = openRaw(doors.httpUrl);
		await raw.ended;
		expect(raw.of(TYPE.ping).length).toBeGreaterThan(0);
	});
});

async function openTcp(url: string): Promise<Socket> {
	const socket = connectTcp(Number(new URL(url).port), "127.0.0.1");
	socket.on("error", () => {});
	closers.push(() => socket.destroy());
	await once(socket, "connect");
	return socket;
}

function openRaw(url: string): RawHttp2 {
	const raw = new RawHttp2(url);
	closers.push(() => raw.socket.destroy());
	return raw;
}

function openSession(url: string): ClientHttp2Session {
	const session = connectHttp2(url);
	session.on("error", () => {});
	closers.push(() => session.destroy());
	return session;
}

/** Waits until the service has closed it. */
async function expectClosed(socket: Socket): Promise<void> {
	socket.resume();
	// Not `once` of node:events: a reset is as good.
	if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
}

/** Whether a connection that has said nothing yet is still there to be heard. */
async function isAnswered(socket: Socket): Promise<boolean> {
	if (socket.closed) return false;
	socket.write("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
	return new Promise((resolve) => {
		socket.once("data", () => resolve(true)).once("close", () => resolve(false));
	});
}

async function isServed(url: string): Promise<boolean> {
	const response = await fetch(`${url}/livez`, { headers: { connection: "close" } });
	await response.body?.cancel();
	return response.ok;
}

/** Whether a new connection is closed at once, or may say something. */
async function isRefused(url: string): Promise<boolean> {
	const session = connectHttp2(url);
	session.on("error", () => {});
	try {
		return await new Promise((resolve) => {
			session.once("remoteSettings", () => resolve(false));
			session.once("close", () => resolve(true));
		});
	} finally {
		session.destroy();
	}
}

/** Waits until both ends go by each other's settings. */
async function settled(session: ClientHttp2Session): Promise<void> {
	await once(session, "remoteSettings");
	await new Promise((resolve) => session.ping(resolve));
}

async function statusOverHttp2(session: ClientHttp2Session, headers: Record<string, string> = {}): Promise<unknown> {
	const stream = session.request({ ":path": "/nowhere", ...headers });
	const [response] = (await once(stream, "response")) as [Record<string, unknown>];
	stream.resume();
	await once(stream, "close");
	return response[":status"];
}

async function rstCodeOf(session: ClientHttp2Session, headers: Record<string, string>): Promise<number | undefined> {
	const stream = session.request({ ":path": "/nowhere", ...headers });
	stream.on("error", () => {}).resume();
	await new Promise((resolve) => stream.once("close", resolve));
	return stream.rstCode;
}
