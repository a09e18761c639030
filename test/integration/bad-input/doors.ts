import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorFromJson } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { toAuditError } from "../../../src/client/errors.ts";
import type { Violation } from "../../../src/errors.ts";

/** What a door answered, in the service's own words. Raw bytes go in, because clients would not send what is sent here. */
export interface Answer {
	/** Absent: it was taken. */
	readonly refusal?: Refusal;
	/** The HTTP status. */
	readonly status: number;
	readonly requestId: string | null | undefined;
	/** All of it as text, to look for what must not be repeated. */
	readonly text: string;
	/** The body as JSON, where it is. */
	readonly json: JsonObject | undefined;
}

export interface Refusal {
	readonly code: string;
	readonly reason: string;
	readonly message: string;
	readonly violations: readonly Violation[];
	readonly retryAfterMs?: number | undefined;
}

export interface Sending {
	readonly body: string | Uint8Array | Blob;
	readonly key?: string;
	readonly headers?: Record<string, string>;
}

export const SERVICE = "/audit.v1.AuditService";

/** `framed: false`: the body is a stream of frames already. */
type Framed = Sending & { readonly body: string | Uint8Array; readonly framed?: boolean };

/** An RPC over Connect. `type`: the content type, such as `application/json`; "" for none. */
export async function sendConnect(url: string, rpc: string, type: string, sending: Sending): Promise<Answer> {
	const typeHeader: Record<string, string> = type === "" ? {} : { "content-type": type };
	const response = await fetch(`${url}${SERVICE}/${rpc}`, {
		method: "POST",
		body: sending.body as BodyInit,
		headers: { ...typeHeader, ...keyHeader(sending), ...sending.headers },
	});
	const text = await response.text();
	const json = jsonOf(text);
	const answer = { status: response.status, requestId: response.headers.get("x-request-id"), text, json };
	if (response.ok) return answer;
	// What is not yet an RPC has the shape of REST errors.
	if (json?.["error"]) return { ...answer, refusal: json["error"] as unknown as Refusal };
	const fallback = new ConnectError("no Connect error", Code.Unknown);
	const error = errorFromJson(json as JsonValue, undefined, fallback);
	return { ...answer, refusal: toRefusal(error), text: text + textOf(error) };
}

/** An RPC over gRPC, on an HTTP/2 connection that is kept. `type`: such as `application/grpc+proto`. */
export async function sendGrpc(
	session: ClientHttp2Session,
	rpc: string,
	type: string,
	sending: Framed,
): Promise<Answer> {
	const stream = session.request({
		":method": "POST",
		":path": `${SERVICE}/${rpc}`,
		"content-type": type,
		te: "trailers",
		...keyHeader(sending),
		...sending.headers,
	});
	const all: Record<string, unknown> = {};
	stream.on("response", (headers) => Object.assign(all, headers));
	stream.on("trailers", (trailers) => Object.assign(all, trailers));
	const chunks: Buffer[] = [];
	stream.on("data", (chunk: Buffer) => chunks.push(chunk));
	stream.end(inFrame(sending));
	await once(stream, "close");
	const plain = Object.entries(all).filter(([name]) => !name.startsWith(":"));
	const error = findTrailerError(new Headers(plain.map(([name, value]) => [name, String(value)])));
	return {
		status: Number(all[":status"]),
		requestId: all["x-request-id"] as string | undefined,
		text: JSON.stringify(plain) + Buffer.concat(chunks).toString() + (error ? textOf(error) : ""),
		json: undefined,
		...(error && { refusal: toRefusal(error) }),
	};
}

/** An RPC over gRPC-Web: the trailers come as the body's last frame. */
export async function sendGrpcWeb(url: string, rpc: string, type: string, sending: Framed): Promise<Answer> {
	const response = await fetch(`${url}${SERVICE}/${rpc}`, {
		method: "POST",
		body: inFrame(sending) as BodyInit,
		headers: { "content-type": type, ...keyHeader(sending), ...sending.headers },
	});
	const bytes = Buffer.from(await response.arrayBuffer());
	const trailer = new Headers(response.headers);
	for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt32BE(at + 1)) {
		if ((bytes.readUInt8(at) & 0x80) === 0) continue;
		const lines = bytes.subarray(at + 5, at + 5 + bytes.readUInt32BE(at + 1)).toString();
		for (const line of lines.split("\r\n").filter(Boolean)) {
			const [name = "", ...value] = line.split(":");
			trailer.set(name, value.join(":").trim());
		}
	}
	const error = findTrailerError(trailer);
	return {
		status: response.status,
		requestId: response.headers.get("x-request-id"),
		text: bytes.toString() + (error ? textOf(error) : ""),
		json: undefined,
		...(error && { refusal: toRefusal(error) }),
	};
}

export async function sendRest(
	url: string,
	method: string,
	path: string,
	sending: Partial<Sending> = {},
): Promise<Answer> {
	const response = await fetch(url + path, {
		method,
		headers: { "content-type": "application/json", ...keyHeader(sending), ...sending.headers },
		...(sending.body !== undefined && { body: sending.body as BodyInit }),
	});
	const text = await response.text();
	const json = jsonOf(text);
	const { error } = (json ?? {}) as { error?: Refusal & { retry_after_ms?: number; request_id: string } };
	const refusal = error && { ...error, retryAfterMs: error.retry_after_ms };
	const requestId = error ? error.request_id : response.headers.get("x-request-id");
	return { status: response.status, requestId, text, json, ...(refusal && { refusal }) };
}

/** A message as gRPC sends it. */
export function framed(message: Uint8Array, flags = 0): Buffer {
	const envelope = Buffer.alloc(5 + message.length);
	envelope.writeUInt8(flags, 0);
	envelope.writeUInt32BE(message.length, 1);
	envelope.set(message, 5);
	return envelope;
}

/** A message with one field that is a message: the request around an event. */
export function wrapped(event: Uint8Array): Uint8Array {
	return new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(event).finish();
}

export function openGrpc(url: string): ClientHttp2Session {
	const session = connectHttp2(url);
	session.on("error", () => {});
	return session;
}

/** What the rules for all errors ask of this one, whatever it is about. */
export function amiss({ refusal, requestId, status }: Answer): string[] {
	if (!refusal) return [];
	const { code, reason, message, violations } = refusal;
	const problems: string[] = [];
	if (!/^[A-Z][A-Z_]+$/.test(reason)) problems.push(`the reason is ${JSON.stringify(reason)}`);
	if (["internal", "unknown"].includes(code) || status === 500) problems.push(`it failed: ${status} ${code}`);
	if (message === "" || message.length > 600) problems.push("the message is empty or very long");
	if (!requestId) problems.push("there is no request id");
	for (const violation of violations) {
		if (violation.message === "") problems.push(`nothing is said of ${violation.field}`);
	}
	return problems;
}

function keyHeader({ key }: Partial<Sending>): Record<string, string> {
	return key === undefined ? {} : { authorization: `Bearer ${key}` };
}

function inFrame({ body, framed: isToBe = true }: Framed): Uint8Array {
	const bytes = typeof body === "string" ? Buffer.from(body) : body;
	return isToBe ? framed(bytes) : bytes;
}

function jsonOf(text: string): JsonObject | undefined {
	try {
		return JSON.parse(text) as JsonObject;
	} catch {
		return undefined;
	}
}

function toRefusal(error: ConnectError): Refusal {
	// The client takes an internal error for a broken connection; here it is the very thing looked for.
	const { code, reason, message, violations, retryAfterMs } = toAuditError(error);
	const isInternal = error.code === Code.Internal || error.code === Code.Unknown;
	return { code: isInternal ? "internal" : wordOf(error, code), reason, message, violations, retryAfterMs };
}

/** Codes the service itself does not use come from Connect. */
function wordOf(error: ConnectError, code: string): string {
	return code === "internal" ? (Code[error.code] ?? "unknown").toLowerCase() : code;
}

function textOf(error: ConnectError): string {
	const { code, reason, message, violations } = toRefusal(error);
	return JSON.stringify([code, reason, message, violations]);
}
