import { connect as connectTcp } from "node:net";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { WriteEventRequestSchema } from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { type Answer, framed, SERVICE, sendConnect, sendGrpc, sendGrpcWeb, sendRest } from "./doors.ts";
import type { Expected, RequestRow } from "./request-rows.ts";
import type { World } from "./world.ts";

/** Rows 1–33 of the catalogue, as far as they are about one request and no event in particular. */

const EVENTS = "/v1/audit/events";
const JSON_TYPE = "application/json";
const PROTO = "application/proto";
const event = { tenantId: "acme", action: "bad.input", actor: { id: "jane" } };
const message = toBinary(WriteEventRequestSchema, create(WriteEventRequestSchema, { event }));
const inSnakeCase = JSON.stringify({ tenant_id: "acme", action: "bad.input", actor: { id: "jane" } });

const malformed = (...fields: string[]): Expected => ({
	code: "invalid_argument",
	reason: "MALFORMED_REQUEST",
	fields,
});

/** The same body at the three doors that are sent whole bodies. */
function everywhere(json: string | Uint8Array, headers: Record<string, string> = {}): RequestRow["doors"] {
	return {
		Connect: ({ httpUrl, key }) => sendConnect(httpUrl, "WriteEvent", JSON_TYPE, { body: json, key, headers }),
		REST: ({ httpUrl, key }) => sendRest(httpUrl, "POST", EVENTS, { body: json, key, headers }),
	};
}

/** Bytes as they are, over both forms of gRPC. */
function overGrpc(body: Uint8Array, headers: Record<string, string> = {}): RequestRow["doors"] {
	return {
		gRPC: ({ grpc, key }) => sendGrpc(grpc, "WriteEvent", "application/grpc", { body, key, headers, framed: false }),
		"gRPC-Web": ({ httpUrl, key }) =>
			sendGrpcWeb(httpUrl, "WriteEvent", "application/grpc-web", { body, key, headers, framed: false }),
	};
}

const compressed = (bytes: Uint8Array): RequestRow["doors"] => ({
	...everywhere(bytes, { "content-encoding": "gzip" }),
	...overGrpc(framed(bytes, 1), { "grpc-encoding": "gzip" }),
});

const timeouts = (connect: string, grpc: string): RequestRow["doors"] => ({
	Connect: ({ httpUrl, key }) =>
		sendConnect(httpUrl, "WriteEvent", PROTO, { body: message, key, headers: { "connect-timeout-ms": connect } }),
	gRPC: ({ grpc: session, key }) =>
		sendGrpc(session, "WriteEvent", "application/grpc", { body: message, key, headers: { "grpc-timeout": grpc } }),
});

export const TRANSPORT: readonly RequestRow[] = [
	...["text/plain", "application/json; charset=utf-16", "application/x-www-form-urlencoded", ""].map(
		(type): RequestRow => ({
			row: 6,
			what: `the content type ${JSON.stringify(type)}`,
			doors: {
				// A Blob has no type of its own, so that none is sent where none is given.
				Connect: ({ httpUrl, key }) => sendConnect(httpUrl, "WriteEvent", type, { body: new Blob([inSnakeCase]), key }),
			},
			expected: { code: "invalid_argument", reason: "UNSUPPORTED_MEDIA_TYPE", status: 415 },
		}),
	),
	{ row: 7, what: "an empty body as JSON", doors: everywhere(""), expected: malformed("request|body") },
	...["[]", "null", "1"].map(
		(json): RequestRow => ({
			row: 8,
			what: `${json} for a request`,
			doors: everywhere(json),
			expected: { ...malformed("request|body"), says: /must be an object/ },
		}),
	),
	{
		row: 11,
		what: "a request of a byte more than 4 MiB",
		doors: {
			...everywhere(Buffer.alloc(4 * 1024 * 1024 + 1, " ")),
			...overGrpc(framed(Buffer.alloc(4 * 1024 * 1024 + 1))),
		},
		expected: { code: "resource_exhausted", reason: "REQUEST_TOO_LARGE", says: /4194304 bytes/ },
	},
	{
		row: 12,
		what: "50 MiB in 50 KiB of gzip",
		doors: compressed(gzipSync(Buffer.alloc(50 * 1024 * 1024))),
		expected: { code: "resource_exhausted", reason: "REQUEST_TOO_LARGE", says: /4194304 bytes/ },
	},
	...[Buffer.from("s3cret: no gzip"), gzipSync(message).subarray(0, -6)].map(
		(bytes, i): RequestRow => ({
			row: 13,
			what: ["gzip that is none", "gzip cut off"][i] as string,
			doors: compressed(bytes),
			expected: { ...malformed("request|body"), says: /is not valid gzip/ },
		}),
	),
	...["br", "deflate", "s3cret"].map(
		(coding): RequestRow => ({
			row: 14,
			what: `the compression ${coding}`,
			doors: {
				...everywhere(inSnakeCase, { "content-encoding": coding }),
				...overGrpc(framed(message, 1), { "grpc-encoding": coding }),
			},
			// gRPC asks for UNIMPLEMENTED; HTTP has no such word.
			expected: { code: ["unimplemented", "invalid_argument"], reason: "UNSUPPORTED_COMPRESSION", says: /gzip/ },
		}),
	),
	{
		row: 15,
		what: "an envelope of 4 GiB, of which 5 bytes come",
		doors: overGrpc(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5])),
		expected: { code: "resource_exhausted", reason: "REQUEST_TOO_LARGE" },
	},
	{
		row: 15,
		what: "an envelope that is cut off",
		doors: overGrpc(framed(message).subarray(0, -1)),
		expected: malformed("request"),
	},
	{ row: 16, what: "no message", doors: overGrpc(Buffer.alloc(0)), expected: malformed("request") },
	{
		row: 16,
		what: "two messages",
		doors: overGrpc(Buffer.concat([framed(message), framed(message)])),
		expected: malformed("request"),
	},
	{
		row: 17,
		what: "a message marked as compressed, without a name of the compression",
		doors: overGrpc(framed(message, 1)),
		expected: malformed("request"),
	},
	...[2, 4, 0x80, 0xff].map(
		(flags): RequestRow => ({
			row: 18,
			what: `an envelope with the reserved flags ${flags}`,
			doors: overGrpc(framed(message, flags)),
			expected: malformed("request"),
		}),
	),
	...["abc", "-5", "1.5", "99999999999", "s3cret"].map(
		(timeout): RequestRow => ({
			row: 19,
			what: `a timeout of ${timeout}`,
			doors: timeouts(timeout, `${timeout}x`),
			expected: { ...malformed("connect-timeout-ms|grpc-timeout"), says: /digits/ },
		}),
	),
	{
		row: 20,
		what: "a timeout of 2^33 ms, or years",
		doors: timeouts("8589934592", "99999999H"),
		expected: { code: "ok" },
	},
	{
		row: 21,
		what: "a timeout that is over",
		doors: timeouts("0", "1n"),
		expected: { code: "deadline_exceeded", reason: "DEADLINE_EXCEEDED" },
	},
	{
		row: 27,
		what: "two lengths that differ",
		doors: raw("Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
		expected: { code: "closed", status: 400 },
	},
	{
		row: 27,
		what: "a length and a transfer encoding",
		doors: raw("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /s3cret HTTP/1.1\r\n\r\n"),
		expected: { code: "closed", status: 400 },
	},
	...["x: a\rb", "x: a\0b", "x: a\nb", "x y: a", "x: a\r\n folded"].map(
		(header): RequestRow => ({
			row: 28,
			what: `the header ${JSON.stringify(header)}`,
			doors: raw(`${header}\r\nContent-Length: 0\r\n\r\n`),
			expected: { code: "closed", status: 400 },
		}),
	),
	{
		row: 28,
		what: "a binary header that is no base64: nobody reads it",
		doors: {
			gRPC: ({ grpc, key }) =>
				sendGrpc(grpc, "WriteEvent", "application/grpc", { body: message, key, headers: { "x-odd-bin": "%&$" } }),
		},
		expected: { code: "ok" },
	},
	{
		row: 113,
		what: "a POST as a browser sends it across sites, with no key of its own",
		doors: {
			REST: ({ httpUrl }) =>
				sendRest(httpUrl, "POST", EVENTS, {
					body: inSnakeCase,
					headers: { "content-type": "text/plain", origin: "https://evil.example" },
				}),
		},
		expected: { code: "permission_denied", reason: "ORIGIN_NOT_ALLOWED" },
	},
	{
		row: 113,
		what: "a POST of a type that browsers send without asking",
		doors: {
			REST: ({ httpUrl, key }) =>
				sendRest(httpUrl, "POST", EVENTS, { body: inSnakeCase, key, headers: { "content-type": "text/plain" } }),
		},
		expected: { code: "invalid_argument", reason: "UNSUPPORTED_MEDIA_TYPE" },
	},
];

/** Bytes on a socket, after the first lines of a request. What comes back is a status, and the end of the connection. */
function raw(rest: string): RequestRow["doors"] {
	const send = ({ httpUrl, key }: World) =>
		new Promise<Answer>((resolve, reject) => {
			const socket = connectTcp(Number(new URL(httpUrl).port), "127.0.0.1");
			let text = "";
			socket.setEncoding("latin1").on("data", (chunk: string) => {
				text += chunk;
			});
			socket.on("error", reject);
			// Not half-closed by us: the server must end it.
			socket.on("close", () => {
				const requestId = /x-request-id: (\S+)/.exec(text)?.[1];
				const refusal = { code: "closed", reason: "CLOSED", message: "closed", violations: [] };
				const answers = text.match(/HTTP\/1\.1 \d+/g) ?? [];
				const status = answers.length === 1 ? Number(answers[0]?.slice(9)) : -answers.length;
				resolve({ status, requestId, text, json: undefined, refusal });
			});
			const head = `POST ${SERVICE}/WriteEvent HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: ${JSON_TYPE}\r\n`;
			socket.write(Buffer.from(head + rest, "latin1"));
		});
	return { "HTTP/1.1": send };
}
