import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { JsonObject } from "@bufbuild/protobuf";
import type { AuditError, ErrorCode } from "../errors.ts";
import type { Call, NodeRequest, NodeResponse } from "./call.ts";
import { REQUEST_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE } from "./errors.ts";
import { SECURITY_HEADERS } from "./security-headers.ts";

const gzipped = promisify(gzip);
/** Smaller answers are not worth the work. */
const COMPRESS_BYTES = 1024;

/** The HTTP status of each code. A request that is too large has 413, one of another type 415, a method that is not there 405. */
export const STATUS = {
	invalid_argument: 400,
	unauthenticated: 401,
	permission_denied: 403,
	not_found: 404,
	already_exists: 409,
	failed_precondition: 400,
	resource_exhausted: 429,
	deadline_exceeded: 504,
	unavailable: 503,
	internal: 500,
} as const satisfies Record<ErrorCode, number>;

/** Answers with JSON, compressed if the caller takes that. */
export async function sendJson(
	request: NodeRequest,
	response: NodeResponse,
	status: number,
	json: JsonObject,
	headers: Record<string, string> = {},
): Promise<void> {
	let body: Uint8Array = Buffer.from(`${JSON.stringify(json)}\n`);
	const encoding: Record<string, string> = {};
	if (body.byteLength >= COMPRESS_BYTES && takesGzip(request)) {
		body = await gzipped(body);
		encoding["content-encoding"] = "gzip";
	}
	response.writeHead(status, {
		"content-type": "application/json",
		"content-length": body.byteLength,
		vary: `${SECURITY_HEADERS.vary}, accept-encoding`,
		...encoding,
		...headers,
	});
	// HTTP/2 refuses a body where HTTP/1 drops it.
	if (request.method === "HEAD") response.end();
	else response.end(body);
}

/** Answers with an error in the one shape of REST errors, and notes it for the log. */
export async function sendError(
	request: NodeRequest,
	response: NodeResponse,
	call: Call,
	error: AuditError,
	{ status = statusOf(error), headers = {} }: { status?: number; headers?: Record<string, string> } = {},
): Promise<void> {
	const { code, reason, message, violations, retryAfterMs, cause } = error;
	call.failure = { code, reason, ...(cause !== undefined && { cause }) };
	const retry = retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs };
	const shown = {
		code,
		reason,
		message,
		violations: violations.map(({ field, message }) => ({ field, message })),
		...retry,
	};
	const json = { error: { ...shown, request_id: call.requestId } };
	const all = { ...headers };
	if (retryAfterMs !== undefined) all["retry-after"] = String(Math.ceil(retryAfterMs / 1000));
	if (code === "unauthenticated") all["www-authenticate"] = "Bearer";
	await sendJson(request, response, status, json, all);
}

function statusOf({ code, reason }: AuditError): number {
	if (reason === UNSUPPORTED_MEDIA_TYPE) return 415;
	return reason === REQUEST_TOO_LARGE ? 413 : STATUS[code];
}

function takesGzip(request: NodeRequest): boolean {
	const accepted = String(request.headers["accept-encoding"] ?? "").split(",");
	return accepted.some((coding) => /^\s*gzip\s*(;\s*q=(?!0(\.0*)?\s*$)|$)/i.test(coding));
}
