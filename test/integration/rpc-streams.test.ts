import { PassThrough } from "node:stream";
import { create, createFileRegistry, type DescService } from "@bufbuild/protobuf";
import {
	FileDescriptorSetSchema,
	FieldDescriptorProto_Label as Label,
	FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";
import {
	type CallOptions,
	Code,
	ConnectError,
	createClient,
	createConnectRouter,
	type ServiceImpl,
} from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import type { Principal } from "../../src/auth/principal.ts";
import { AuditError } from "../../src/errors.ts";
import type { TenantId } from "../../src/event/event.ts";
import { createLogger } from "../../src/logger.ts";
import { callOf } from "../../src/rpc/call.ts";
import { CallLog } from "../../src/rpc/call-log.ts";
import { ClientAddresses } from "../../src/rpc/client-address.ts";
import { Connections } from "../../src/rpc/connections.ts";
import { guard } from "../../src/rpc/guard.ts";
import { DOOR_LIMITS, type DoorLimits } from "../../src/rpc/limits.ts";
import { Origins } from "../../src/rpc/origins.ts";
import { openPort } from "../../src/rpc/port.ts";
import { Quota } from "../../src/rpc/quota.ts";
import { routerOptions, routeTo } from "../../src/rpc/route-rpcs.ts";
import { Telemetry } from "../../src/telemetry.ts";
import { FLAG, frame, RawHttp2, requestHeaders, TYPE } from "../support/http2-frames.ts";
import { waitFor } from "../support/services.ts";

// What holds for every streaming RPC the service may have, shown on two that are nobody's: one whose server speaks, one
// where both do.

const closers: (() => unknown)[] = [];

afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

const Streams = describeStreams();

/** Short, and yet time enough for a busy machine to get the request through. */
const SHORT = { readMs: 3_000, stalledMs: 500, idleMs: 4_000 };

test.each(["Connect over HTTP/1.1", "Connect", "gRPC"])(
	"a stream over %s may be silent for longer than any call may take, and go on then",
	async (protocol) => {
		const port = await openStreams({ ...SHORT, pingMs: 100, pongMs: 10_000 });
		const stream = clientOf(port.url, protocol).watch({ text: "news" })[Symbol.asyncIterator]();
		port.say("first");
		expect((await stream.next()).value).toMatchObject({ text: "first" });
		// For longer than all of these bounds: a session that began later is sent away for being idle.
		await sentAway(port.url);
		port.say("second");
		expect((await stream.next()).value).toMatchObject({ text: "second" });
		port.say(undefined);
		expect((await stream.next()).done).toBe(true);
	},
);

describe.each(["Connect", "gRPC"])("a stream over %s", (protocol) => {
	test("ends when its caller's own time is over", async () => {
		const port = await openStreams({});
		const stream = clientOf(port.url, protocol).watch({ text: "news" }, { timeoutMs: 200 })[Symbol.asyncIterator]();
		await expect(stream.next()).rejects.toMatchObject({ code: Code.DeadlineExceeded });
		await waitFor(() => port.ended, { what: "the end of its handler" });
	});

	test("ends with `unavailable` when the service is to stop, and does not keep it", async () => {
		const port = await openStreams({});
		const stream = clientOf(port.url, protocol).watch({ text: "news" })[Symbol.asyncIterator]();
		port.say("first");
		await stream.next();
		const ended = expect(stream.next()).rejects.toMatchObject({ code: Code.Unavailable });
		await port.close();
		await ended;
		await waitFor(() => port.ended, { what: "the end of its handler" });
	});

	test("carries messages in both directions, for longer than any call may take", async () => {
		const port = await openStreams(SHORT);
		const questions = new PassThrough({ objectMode: true });
		const answers = clientOf(port.url, protocol).talk(questions)[Symbol.asyncIterator]();
		for (const text of ["one", "two"]) {
			questions.write({ text });
			expect((await answers.next()).value).toMatchObject({ text: `you said ${text}` });
			await sentAway(port.url);
		}
		questions.end();
		expect((await answers.next()).done).toBe(true);
	});

	test("tells what goes wrong in the middle of it as every RPC does", async () => {
		const port = await openStreams({});
		const stream = clientOf(port.url, protocol).watch({ text: "news" })[Symbol.asyncIterator]();
		port.say("first");
		await stream.next();
		port.say("fail");
		await expect(stream.next()).rejects.toMatchObject({ code: Code.FailedPrecondition, rawMessage: "as it was asked" });
	});
});

test("a stream whose messages are not read is ended, and its handler with it", async () => {
	const port = await openStreams({ stalledMs: 200 });
	// A window of nothing: no byte of the answer may leave.
	const raw = new RawHttp2(port.url, Buffer.of(0, 4, 0, 0, 0, 0));
	closers.push(() => raw.socket.destroy());
	const headers = { ":method": "POST", "content-type": "application/grpc+proto" };
	raw.write(frame(TYPE.headers, FLAG.endHeaders, 1, requestHeaders("/test.Streams/Watch", headers)));
	raw.write(frame(TYPE.data, FLAG.endStream, 1, Buffer.alloc(5)));
	port.say("x".repeat(100_000));
	await waitFor(() => raw.of(TYPE.rst).length > 0, { what: "the end of the stream" });
	await waitFor(() => port.ended, { what: "the end of its handler" });
});

describe.each(["Connect", "gRPC"])("streams that need a key, over %s", (protocol) => {
	const openWith = async (limits: Partial<DoorLimits>) => {
		const port = await openStreams(limits);
		const open = (rpc: "watch" | "talk", caller: string) => {
			const leaving = new AbortController();
			const questions = new PassThrough({ objectMode: true });
			questions.write({ text: "one" });
			const client = clientOf(port.url, protocol);
			const options = { headers: { "x-caller": caller }, signal: leaving.signal };
			const answers = rpc === "talk" ? client.talk(questions, options) : client.watch({ text: "" }, options);
			const first = answers[Symbol.asyncIterator]().next();
			first.catch(() => {});
			closers.push(() => leaving.abort());
			return { first, leave: () => leaving.abort() };
		};
		return open;
	};
	const refused = { code: Code.ResourceExhausted, rawMessage: expect.stringContaining("as many streams open") };

	test("are bounded per key, whatever they are, and one that ends makes room", async () => {
		const open = await openWith({ keyStreams: 2 });
		const talks = [open("talk", "k1 acme"), open("talk", "k1 acme")];
		for (const { first } of talks) expect((await first).value).toMatchObject({ text: "you said one" });
		for (const rpc of ["talk", "watch"] as const)
			await expect(open(rpc, "k1 acme").first).rejects.toMatchObject(refused);
		expect((await open("talk", "k2 acme").first).value).toMatchObject({ text: "you said one" });
		talks[0]?.leave();
		await waitFor(async () => (await open("talk", "k1 acme").first).value, { what: "room for another stream" });
	});

	test("are bounded per tenant, over all keys bound to it", async () => {
		const open = await openWith({ keyStreams: 2, tenantStreams: 2 });
		const talks = [open("talk", "k1 acme"), open("talk", "k2 acme")];
		for (const { first } of talks) await first;
		await expect(open("talk", "k3 acme").first).rejects.toMatchObject(refused);
		// A call that is refused keeps nothing of its key's share.
		for (let i = 0; i < 5; i++) await expect(open("talk", "k3 acme").first).rejects.toMatchObject(refused);
		await waitFor(async () => (await open("talk", "k3 globex").first).value, { what: "the key's share" });
		await open("talk", "k4 acme globex").first;
		talks[0]?.leave();
		await waitFor(async () => (await open("talk", "k5 acme").first).value, { what: "room for another stream" });
	});
});

function principalWith(id: string, tenants: readonly TenantId[]): Principal {
	return {
		kind: "api_key",
		id,
		keyId: id,
		name: "",
		roles: new Set(["reader"]),
		tenants: new Set(tenants),
		maskedUnits: new Set(),
		expiresAt: undefined,
	};
}

/** Waits for as long as a session without a call is kept. */
async function sentAway(url: string): Promise<void> {
	const idle = new RawHttp2(url);
	await idle.ended;
	idle.socket.destroy();
}

/** A port with the two RPCs, and what the first one says. Who calls is what `x-caller` says: `KEY TENANT …`. */
async function openStreams(changed: Partial<DoorLimits>) {
	const limits = { ...DOOR_LIMITS, ...changed };
	const logger = createLogger("silent");
	const stopping = new AbortController();
	const said: (string | undefined)[] = [];
	let ended = false;
	const impl = {
		async *watch(_: unknown, { signal }: { signal: AbortSignal }) {
			try {
				for (;;) {
					await waitFor(() => said.length > 0 || signal.aborted, { deadlineMs: 60_000, intervalMs: 5 });
					if (signal.aborted) return;
					const text = said.shift();
					if (text === undefined) return;
					if (text === "fail") throw new AuditError("failed_precondition", "as it was asked", { reason: "ASKED" });
					yield { text };
				}
			} finally {
				ended = true;
			}
		},
		async *talk(questions: AsyncIterable<{ text: string }>) {
			for await (const { text } of questions) yield { text: `you said ${text}` };
		},
	};
	const router = createConnectRouter({
		...routerOptions(limits, stopping.signal),
		requestGate: ({ requestHeader, values }) => {
			const [id, ...tenants] = requestHeader.get("x-caller")?.split(" ") ?? [];
			if (id !== undefined) callOf(values).principal = principalWith(id, tenants as TenantId[]);
		},
	});
	router.service(Streams, impl as unknown as ServiceImpl<DescService>);
	const budgets = { requests: new Quota(2 ** 26, 2 ** 26), answers: new Quota(2 ** 26, 2 ** 26) };
	const handle = guard(routeTo(router, { budgets, limits }), {
		log: new CallLog(logger),
		telemetry: new Telemetry(),
		stalledMs: limits.stalledMs,
		calls: new Quota(limits.calls, limits.callsPerAddress),
		addresses: new ClientAddresses([]),
		origins: new Origins([]),
	});
	const connections = new Connections({ ...limits, logger });
	const port = await openPort({ host: "127.0.0.1", port: 0, protocol: "any", handle, connections, limits });
	const close = async () => {
		stopping.abort();
		await port.close(10_000);
	};
	closers.push(close);
	return {
		url: port.url,
		close,
		say: (text: string | undefined) => void said.push(text),
		get ended() {
			return ended;
		},
	};
}

interface StreamsClient {
	watch(request: { text: string }, options?: CallOptions): AsyncIterable<{ text: string }>;
	talk(requests: AsyncIterable<{ text: string }>, options?: CallOptions): AsyncIterable<{ text: string }>;
}

function clientOf(baseUrl: string, protocol: string): StreamsClient {
	const httpVersion = protocol === "Connect over HTTP/1.1" ? "1.1" : "2";
	const transport =
		protocol === "gRPC" ? createGrpcTransport({ baseUrl }) : createConnectTransport({ baseUrl, httpVersion });
	return createClient(Streams, transport) as unknown as StreamsClient;
}

function describeStreams(): DescService {
	const text = { name: "text", number: 1, type: Type.STRING, label: Label.OPTIONAL, jsonName: "text" };
	const method = { inputType: ".test.Text", outputType: ".test.Text", serverStreaming: true };
	const file = {
		name: "test.proto",
		package: "test",
		syntax: "proto3",
		messageType: [{ name: "Text", field: [text] }],
		service: [
			{
				name: "Streams",
				method: [
					{ name: "Watch", ...method },
					{ name: "Talk", ...method, clientStreaming: true },
				],
			},
		],
	};
	const service = createFileRegistry(create(FileDescriptorSetSchema, { file: [file] })).getService("test.Streams");
	if (!service) throw new ConnectError("no such service");
	return service;
}
