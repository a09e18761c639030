import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import { text } from "node:stream/consumers";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../src/gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import { parseNetworks } from "../../src/rpc/network-settings.ts";
import { startDoors } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";

const closers: (() => unknown)[] = [];

afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

async function doorsWith(options: Parameters<typeof startDoors>[0] = {}) {
	const doors = await startDoors(options);
	closers.push(() => doors.close());
	return doors;
}

function openSession(url: string, settings = {}): ClientHttp2Session {
	const session = connectHttp2(url, { settings });
	session.on("error", () => {});
	closers.push(() => session.destroy());
	return session;
}

function call(session: ClientHttp2Session, path: string, headers = {}): ClientHttp2Stream {
	const head = { ":method": "POST", ":path": path, "content-type": "application/json", ...headers };
	return session.request(head).on("error", () => {});
}

describe("callers without a key", () => {
	test("do not keep others from asking for the service's health by not reading what it is", async () => {
		const doors = await doorsWith({ limits: { stalledMs: 600_000, readMs: 10_000 } });
		const session = openSession(doors.grpcUrl, { initialWindowSize: 0 });
		await once(session, "remoteSettings");
		for (let i = 0; i < 100; i++) call(session, "/grpc.health.v1.Health/Check").end("{}");
		// Whoever comes now comes after them.
		await new Promise<void>((resolve, reject) => session.ping((error) => (error ? reject(error) : resolve())));
		const health = createClient(Health, createGrpcTransport({ baseUrl: doors.grpcUrl }));
		for (let i = 0; i < 5; i++) expect((await health.check({})).status).toBe(Status.SERVING);
	});

	test("hold so many streams of reflection and no more: the others' calls need room", async () => {
		const doors = await doorsWith();
		const reflect = () => {
			const leaving = new AbortController();
			async function* questions() {
				yield { messageRequest: { case: "listServices" as const, value: "" } };
				await once(leaving.signal, "abort");
			}
			const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: doors.grpcUrl }));
			const answers = client.serverReflectionInfo(questions(), { signal: leaving.signal })[Symbol.asyncIterator]();
			closers.push(() => leaving.abort());
			return { first: answers.next(), leave: () => leaving.abort() };
		};
		const streams = Array.from({ length: 100 }, reflect);
		await Promise.all(streams.map(({ first }) => first));
		await expect(reflect().first).rejects.toMatchObject({ code: Code.ResourceExhausted });
		streams[0]?.leave();
		await waitFor(async () => (await reflect().first).done === false, { what: "room for another" });
	});
});

test("an address watches the service's health so many times, and keeps nobody else from it", async () => {
	const doors = await doorsWith({ trustedProxies: parseNetworks("127.0.0.1") });
	const watch = (address: string) => {
		const leaving = new AbortController();
		closers.push(() => leaving.abort());
		// One connection has 100 calls at most.
		const client = createClient(Health, createGrpcTransport({ baseUrl: doors.grpcUrl }));
		const headers = { "x-forwarded-for": address };
		const statuses = client.watch({}, { signal: leaving.signal, headers })[Symbol.asyncIterator]();
		return { first: statuses.next(), leave: () => leaving.abort() };
	};
	const watchers = Array.from({ length: 100 }, () => watch("203.0.113.5"));
	await Promise.all(watchers.map(({ first }) => first));
	await expect(watch("203.0.113.5").first).rejects.toMatchObject({ code: Code.ResourceExhausted });
	expect((await watch("203.0.113.6").first).value).toMatchObject({ status: Status.SERVING });
	watchers[0]?.leave();
	await waitFor(async () => (await watch("203.0.113.5").first).done === false, { what: "room for another" });
});

describe("a call too many", () => {
	const busyDoors = () =>
		doorsWith({ limits: { calls: 1, callsPerAddress: 1 }, readiness: () => new Promise(() => {}) });

	test("is told what it is over HTTP/1.1, like every other", async () => {
		const doors = await busyDoors();
		const held = openSession(doors.httpUrl);
		held.request({ ":path": "/readyz" }).on("error", () => {});
		await new Promise<void>((resolve) => held.ping(() => resolve()));
		const request = httpRequest(`${doors.httpUrl}/livez`, { headers: { "x-request-id": "mine" } }).end();
		const [response] = (await once(request, "response")) as [IncomingMessage];
		expect(response.statusCode).toBe(429);
		expect(response.headers["x-request-id"]).toBe("mine");
		expect(JSON.parse(await text(response))).toMatchObject({ error: { request_id: "mine" } });
	});

	test("does not cost its caller the connection, however often: it was not the caller who cancelled", async () => {
		const doors = await busyDoors();
		const session = openSession(doors.httpUrl);
		const held = session.request({ ":path": "/readyz" }).on("error", () => {});
		for (let i = 0; i < 400; i++) {
			const refused = session.request({ ":path": "/livez" }).on("error", () => {});
			await new Promise((resolve) => refused.once("close", resolve));
			expect(refused.rstCode).toBe(constants.NGHTTP2_REFUSED_STREAM);
		}
		expect(session.destroyed).toBe(false);
		expect(held.closed).toBe(false);
	});
});

test("reflection over HTTP/1.1, which cannot have it, is refused in the shape of every error", async () => {
	const doors = await doorsWith();
	const request = httpRequest(`${doors.httpUrl}/grpc.reflection.v1.ServerReflection/ServerReflectionInfo`, {
		method: "POST",
		headers: { "content-type": "application/grpc-web+proto" },
	}).end();
	const [response] = (await once(request, "response")) as [IncomingMessage];
	expect(response.statusCode).toBe(505);
	const { error } = JSON.parse(await text(response));
	expect(error).toMatchObject({ code: "invalid_argument", reason: "HTTP2_REQUIRED" });
});
