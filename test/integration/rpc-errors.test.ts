import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService, BatchWriteMode, WriteEventRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { BadRequestSchema, ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";

let service: RpcService;
let key: string;

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", ["acme"]);
});
afterAll(() => service.end());

const sendKey: Interceptor = (next) => (request) => {
	request.header.set("authorization", `Bearer ${key}`);
	return next(request);
};

const transports: [string, () => Transport][] = [
	["Connect", () => createConnectTransport({ baseUrl: service.httpUrl, httpVersion: "2", interceptors: [sendKey] })],
	["gRPC", () => createGrpcTransport({ baseUrl: service.grpcUrl, interceptors: [sendKey] })],
	["gRPC-Web", () => createGrpcWebTransport({ baseUrl: service.httpUrl, httpVersion: "1.1", interceptors: [sendKey] })],
];

describe("an invalid event is refused with every violation by its path", () => {
	test.each(transports)("over %s", async (_, transport) => {
		const client = createClient(AuditService, transport());
		const error = await failure(
			client.writeEvent({ event: { action: "Not Valid", actor: {}, context: { ipAddress: "999.1.1.1" } } }),
		);
		expect(error.code).toBe(Code.InvalidArgument);
		expect(error.rawMessage).toBe("event.action: must be 1 to 127 of a-z 0-9 . _ - (and 2 more)");
		expect(reasonOf(error)).toEqual(["INVALID_EVENT", "audit.v1"]);
		expect(fieldsOf(error)).toEqual(["event.action", "event.actor.id", "event.context.ip_address"]);
		expect(error.metadata.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
	});

	test.each(transports)("of an atomic batch over %s", async (_, transport) => {
		const client = createClient(AuditService, transport());
		const events = [{ action: "user.login", actor: { id: "jane" } }, { action: "x" }, { action: "" }];
		const error = await failure(client.batchWrite({ events, mode: BatchWriteMode.ATOMIC }));
		expect(error.code).toBe(Code.InvalidArgument);
		expect(fieldsOf(error)).toEqual(["events[1].actor", "events[2].action", "events[2].actor"]);
	});

	test("of a partial batch, in the item's result", async () => {
		const client = createClient(AuditService, (transports[0] as (typeof transports)[0])[1]());
		const { results } = await client.batchWrite({ events: [{ action: "user.login", actor: { id: "jane" } }, {}] });
		expect(results[0]?.result.case).toBe("written");
		expect(results[1]?.result.value).toMatchObject({
			code: "invalid_argument",
			reason: "INVALID_EVENT",
			message: "events[1].action: is required (and 1 more)",
			violations: [
				{ field: "events[1].action", message: "is required" },
				{ field: "events[1].actor", message: "is required" },
			],
		});
	});

	test("even if there are more than fit into a gRPC trailer: those are counted", async () => {
		const client = createClient(
			AuditService,
			createGrpcTransport({ baseUrl: service.grpcUrl, interceptors: [sendKey] }),
		);
		const error = await failure(client.batchWrite({ events: Array(1000).fill({}), mode: BatchWriteMode.ATOMIC }));
		expect(error.code).toBe(Code.InvalidArgument);
		const violations = error.findDetails(BadRequestSchema)[0]?.fieldViolations ?? [];
		expect(violations.length).toBeGreaterThan(50);
		expect(violations.at(-1)?.description).toBe(`and ${2000 - violations.length + 1} more`);
		expect(violations.at(-1)?.field).toBe("");
	});
});

describe("bytes that are no request are the caller's fault and never an internal error", () => {
	const actor = new BinaryWriter().tag(2, WireType.LengthDelimited).string("jane").finish();
	const event = (bytes: Uint8Array) => new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(bytes).finish();
	const malformed: [string, Uint8Array, string][] = [
		["cut off", new Uint8Array([0x0a, 50, 1]), "request: is not valid protobuf"],
		["an endless varint", new Uint8Array(12).fill(0xff), "request: is not valid protobuf"],
		["a field number 0", new Uint8Array([0, 0]), "request: is not valid protobuf"],
		["text that is not UTF-8", event(new Uint8Array([0x1a, 2, 0xff, 0xfe])), "event.action: must be valid UTF-8"],
		["an unclosed group", new Uint8Array([0x0b]), "event: is not valid protobuf"],
		["101 nested messages", nested(101), "event.metadata: is not valid protobuf"],
	];

	test.each(malformed)("protobuf: %s", async (_, bytes, message) => {
		for (const [body, headers] of [
			[bytes, {}],
			[gzipSync(bytes), { "content-encoding": "gzip" }],
		] as const) {
			const connect = await post("application/proto", body, headers);
			expect(connect.status).toBe(400);
			expect(await connect.json()).toMatchObject({ code: "invalid_argument", message });
		}

		for (const type of ["application/grpc+proto", "application/grpc-web+proto"]) {
			const status = await grpcStatus(type, bytes);
			expect(status).toEqual({ code: 3, message });
		}
	});

	test.each([
		[
			"a field this version does not know",
			event(new BinaryWriter().tag(99, WireType.Varint).uint32(1).finish()),
			"event",
		],
		[
			"one inside the actor",
			event(
				new BinaryWriter()
					.tag(5, WireType.LengthDelimited)
					.bytes(new Uint8Array([...actor, 0x98, 0x06, 0x01]))
					.finish(),
			),
			"event.actor",
		],
	])("protobuf: %s would be lost, so it is refused", async (_, bytes, field) => {
		const response = await post("application/proto", bytes);
		expect(await response.json()).toMatchObject({
			code: "invalid_argument",
			message: `${field}: has the field number 99, which this version does not know`,
		});
	});

	test.each([
		["", "request: is not valid JSON"],
		["{", "request: is not valid JSON"],
		["[]", "request: must be an object"],
		["null", "request: must be an object"],
		["\xff", "request: is not valid UTF-8"],
		['{"evnt":{}}', "evnt: is not a field of WriteEventRequest"],
		['{"event":{"action":1}}', "event.action: must be a string"],
		['{"event":{"tenantId":"a","tenant_id":"a"}}', "event.tenant_id: is given twice, in two spellings"],
		['{"event":{"metadata":{"a":1,"\\u0061":2}}}', "event.metadata.a: is given twice"],
		['{"event":{"action":"\\ud800"}}', "event.action: must be well-formed Unicode (it has a lone surrogate)"],
		[
			'{"event":{"outcome":"OUTCOME_GREAT"}}',
			"event.outcome: must be one of OUTCOME_UNSPECIFIED, OUTCOME_SUCCESS, OUTCOME_FAILURE, OUTCOME_DENIED, OUTCOME_PENDING",
		],
	])("JSON: %s", async (text, message) => {
		const bytes = Buffer.from(text, "latin1");
		const response = await post("application/json", bytes);
		expect(response.status).toBe(400);
		const body = (await response.json()) as { code: string; message: string };
		expect(body).toMatchObject({ code: "invalid_argument", message: expect.stringContaining(message) });
		for (const type of ["application/grpc+json", "application/grpc-web+json"]) {
			expect(await grpcStatus(type, bytes)).toEqual({ code: 3, message: body.message });
		}
	});

	test.each(["Query", "GetEvent"])("protobuf: a field that %s does not know is refused, as in JSON", async (method) => {
		const unknown = new BinaryWriter().tag(99, WireType.Varint).uint32(1).finish();
		const response = await post("application/proto", unknown, {}, method);
		expect(await response.json()).toMatchObject({
			code: "invalid_argument",
			message: "request: has the field number 99, which this version does not know",
		});
	});

	test("gRPC: a message said to be compressed when no compression is named, no message, and two of them", async () => {
		const message = framed(new Uint8Array());
		const compressed = Buffer.from(message);
		compressed[0] = 1;
		for (const type of ["application/grpc+proto", "application/grpc-web+proto"]) {
			expect(await grpcAnswer(type, compressed)).toEqual({
				code: 3,
				message: "request: is marked as compressed, and no compression is named",
			});
			expect(await grpcAnswer(type, Buffer.alloc(0))).toEqual({
				code: 3,
				message: "request: must have one message, and has none",
			});
			expect(await grpcAnswer(type, Buffer.concat([message, message]))).toEqual({
				code: 3,
				message: "request: must have one message, and has more",
			});
		}
	});

	test("values the caller sent are not repeated", async () => {
		const response = await post(
			"application/json",
			Buffer.from('{"event":{"schemaVersion":"s3cret","occurredAt":"s3cret"}}'),
		);
		expect(await response.text()).not.toContain("s3cret");
	});

	test("gzip that is none, or cut off", async () => {
		const gzip = gzipSync('{"event":{}}');
		for (const bytes of [Buffer.from("not gzip"), gzip.subarray(0, gzip.length - 6)]) {
			const response = await post("application/json", bytes, { "content-encoding": "gzip" });
			expect(response.status).toBe(400);
			expect(await response.json()).toMatchObject({
				code: "invalid_argument",
				message: "request: is not valid gzip",
			});
		}
	});

	test("brotli is not spoken", async () => {
		const response = await post("application/json", Buffer.from("x"), { "content-encoding": "br" });
		expect(await response.json()).toMatchObject({ code: "unimplemented", message: expect.stringContaining("gzip") });
	});

	test.each(["abc", "-5", "99999999999"])("a Connect timeout of %s", async (timeout) => {
		const response = await post("application/json", Buffer.from("{}"), { "connect-timeout-ms": timeout });
		expect(await response.json()).toMatchObject({ code: "invalid_argument" });
	});
});

describe("limits", () => {
	test("a request of 4 MiB is read, one of a byte more is not", async () => {
		const exactly = padded(4 * 1024 * 1024);
		expect((await post("application/proto", exactly)).status).toBe(400);
		const over = await post("application/proto", padded(4 * 1024 * 1024 + 1));
		expect(over.status).toBe(429);
		expect(await over.json()).toMatchObject({
			code: "resource_exhausted",
			message: "the request is larger than 4194304 bytes",
		});
	});

	test("a small request that unpacks to more is stopped at the limit", async () => {
		const bomb = gzipSync(Buffer.alloc(50 * 1024 * 1024));
		const response = await post("application/proto", bomb, { "content-encoding": "gzip" });
		expect(await response.json()).toMatchObject({ code: "resource_exhausted" });
	});

	test("a batch of 1,000 events is stored, one more is refused", async () => {
		const client = createClient(AuditService, (transports[0] as (typeof transports)[0])[1]());
		const event = { action: "user.login", actor: { id: "jane" } };
		expect((await client.batchWrite({ events: Array(1000).fill(event) })).results).toHaveLength(1000);
		const error = await failure(client.batchWrite({ events: Array(1001).fill(event) }));
		expect([error.code, fieldsOf(error)]).toEqual([Code.InvalidArgument, ["events"]]);
		expect((await failure(client.batchWrite({ events: [] }))).code).toBe(Code.InvalidArgument);
	});

	test("a caller may allow itself more time than the service does; it gets the service's", async () => {
		const client = createClient(AuditService, (transports[1] as (typeof transports)[0])[1]());
		const { results } = await client.batchWrite(
			{ events: [{ action: "user.login", actor: { id: "jane" } }] },
			{ timeoutMs: 3_600_000 },
		);
		expect(results).toHaveLength(1);
	});
});

async function failure(call: Promise<unknown>): Promise<ConnectError> {
	return call.then(
		() => {
			throw new Error("the call succeeded");
		},
		(error: unknown) => ConnectError.from(error),
	);
}

function reasonOf(error: ConnectError): (string | undefined)[] {
	const [info] = error.findDetails(ErrorInfoSchema);
	return [info?.reason, info?.domain];
}

function fieldsOf(error: ConnectError): string[] {
	return error
		.findDetails(BadRequestSchema)
		.flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
}

function post(
	type: string,
	body: Uint8Array,
	headers: Record<string, string> = {},
	method = "WriteEvent",
): Promise<Response> {
	return fetch(`${service.httpUrl}/audit.v1.AuditService/${method}`, {
		method: "POST",
		body: body as Uint8Array<ArrayBuffer>,
		headers: { "content-type": type, authorization: `Bearer ${key}`, ...headers },
	});
}

/** A message as gRPC sends it. */
function framed(message: Uint8Array): Buffer {
	const envelope = Buffer.alloc(5 + message.length);
	envelope.writeUInt32BE(message.length, 1);
	envelope.set(message, 5);
	return envelope;
}

function grpcStatus(type: string, message: Uint8Array): Promise<{ code: number; message: string }> {
	return grpcAnswer(type, framed(message));
}

/** Sends a body by hand and reads the status out of gRPC-Web's last frame, or gRPC's headers. */
async function grpcAnswer(type: string, body: Buffer): Promise<{ code: number; message: string }> {
	// Over HTTP/1.1, which gRPC does not officially know, trailers come after the body: read them raw.
	const { request } = await import("node:http");
	return new Promise((resolve, reject) => {
		const call = request(`${service.httpUrl}/audit.v1.AuditService/WriteEvent`, {
			method: "POST",
			headers: { "content-type": type, authorization: `Bearer ${key}`, te: "trailers" },
		});
		call.on("error", reject);
		call.on("response", (response) => {
			let text = "";
			response.setEncoding("latin1").on("data", (chunk: string) => {
				text += chunk;
			});
			response.on("end", () => {
				const { trailers } = response;
				const code = trailers["grpc-status"] ?? /grpc-status: (\d+)/.exec(text)?.[1];
				const encoded = trailers["grpc-message"] ?? /grpc-message: (.*)\r\n/.exec(text)?.[1];
				resolve({ code: Number(code), message: decodeURIComponent(encoded ?? "") });
			});
		});
		call.end(body);
	});
}

/** A request of exactly this many bytes: an event with a description that is too long. */
function padded(bytes: number): Uint8Array {
	const size = (length: number) =>
		toBinary(WriteEventRequestSchema, create(WriteEventRequestSchema, { event: { description: "x".repeat(length) } }));
	const overhead = size(bytes - 100).length - (bytes - 100);
	return size(bytes - overhead);
}

/** An event whose metadata is a Struct in a Struct in a … */
function nested(depth: number): Uint8Array {
	const message = (field: number, bytes: Uint8Array) =>
		new BinaryWriter().tag(field, WireType.LengthDelimited).bytes(bytes).finish();
	let struct: Uint8Array = new Uint8Array();
	for (let i = 0; i < depth; i += 1) {
		const key = new BinaryWriter().tag(1, WireType.LengthDelimited).string("k").finish();
		const value = message(5, struct);
		struct = message(1, new Uint8Array([...key, ...message(2, value)]));
	}
	return message(1, message(14, struct));
}
