import { AuditError } from "../errors.ts";
import type { Telemetry } from "../telemetry.ts";
import { runWith } from "../trace.ts";
import { type Call, type NodeRequest, type NodeResponse, type Route, startCall, wholeHeader } from "./call.ts";
import { measureEnd } from "./call-end.ts";
import type { CallLog } from "./call-log.ts";
import type { ClientAddresses } from "./client-address.ts";
import { sourceOf } from "./connections.ts";
import { asAuditError, overloaded } from "./errors.ts";
import { refuseStream } from "./http2-session.ts";
import { RPC_LIMITS } from "./limits.ts";
import type { Origins } from "./origins.ts";
import type { Quota } from "./quota.ts";
import { sendError } from "./rest-response.ts";
import { setSecurityHeaders } from "./security-headers.ts";
import { endWithAnswer } from "./sending.ts";

export interface GuardOptions {
	readonly log: CallLog;
	readonly telemetry: Telemetry;
	readonly stalledMs: number;
	/** The calls being answered, by the address they come from. */
	readonly calls: Quota;
	readonly addresses: ClientAddresses;
	readonly origins: Origins;
}

/**
 * The outermost layer of both ports: no request ends the process, every response carries `x-request-id` and what tells
 * browsers to do nothing with it, and the end of every call is logged once.
 *
 * Connect's adapter builds a URL from `Host` or `:authority` and throws, outside of any promise, when they are malformed
 * or missing: such requests end here.
 */
export function guard(
	serve: Route,
	{ log, telemetry, stalledMs, calls, addresses, origins }: GuardOptions,
): (request: NodeRequest, response: NodeResponse) => void {
	return (request, response) => {
		const call = startCall(request, addresses);
		// Broken connections are the callers' affair; without listeners they would end the process.
		request.on("error", () => {});
		response.on("error", () => {});
		const fail = (error: unknown) => {
			// A caller that left cannot be answered, and writing to it fails: not a fault of ours.
			if (gone) return;
			refuse(request, response, call, asAuditError(error));
		};
		let gone = false;
		response.once("close", () => {
			gone = true;
			const failure = failureOf(call, response);
			log.end(call, failure);
			measureEnd(call, failure, telemetry);
		});
		try {
			response.setHeader("x-request-id", call.requestId);
			setSecurityHeaders(request, response);
			origins.share(request, response);
			if (!holdPlace(call, response, calls)) return refuseUnseen(request, response, call);
			endWithAnswer(request, response, stalledMs);
			if (headerBytes(request) > RPC_LIMITS.headerBytes) {
				const tooLarge = { status: 431 };
				return void sendError(request, response, call, headersTooLarge(), tooLarge).catch(fail);
			}
			origins.require(request, validAuthority(request));
			if (origins.answerPreflight(request, response)) return void (call.name = "preflight");
			runWith(call.trace, () => serve(request, response, call))?.catch(fail);
		} catch (error) {
			fail(error);
		}
	};
}

/** A place among the calls being answered, until this one is. @returns whether there was one */
function holdPlace({ address }: Call, response: NodeResponse, calls: Quota): boolean {
	const source = sourceOf(address);
	if (!calls.take(source, 1)) return false;
	response.once("close", () => calls.giveBack(source, 1));
	return true;
}

/** Turns a call away at the least cost: over HTTP/2 without an answer that somebody would have to read. */
function refuseUnseen(request: NodeRequest, response: NodeResponse, call: Call): void {
	const error = overloaded();
	if (!("stream" in response)) return refuse(request, response, call, error);
	call.failure = { code: error.code, reason: error.reason };
	refuseStream(response.stream);
}

/** Node bounds them itself, over HTTP/2 not before the peer has acknowledged the settings. */
function headerBytes({ rawHeaders }: NodeRequest): number {
	return rawHeaders.reduce((sum, text) => sum + text.length, 0);
}

function headersTooLarge(): AuditError {
	return new AuditError("invalid_argument", `the headers are larger than ${RPC_LIMITS.headerBytes} bytes`, {
		reason: "HEADERS_TOO_LARGE",
	});
}

function validAuthority(request: NodeRequest): string {
	const authority = "authority" in request ? request.authority : wholeHeader(request, "host");
	const isValid = authority !== undefined && /^[^\s/?#@\\]+$/.test(authority) && URL.canParse(`http://${authority}`);
	if (isValid) return authority;
	const message = "Host or :authority must be a host name or address, with or without a port";
	throw new AuditError("invalid_argument", message, { reason: "MALFORMED_AUTHORITY" });
}

/** Answers with an error, or cuts off an answer that has begun. */
function refuse(request: NodeRequest, response: NodeResponse, call: Call, error: AuditError): void {
	if (!response.headersSent) return void sendError(request, response, call, error).catch(() => response.destroy());
	const { code, reason, cause } = error;
	call.failure ??= { code, reason, ...(cause !== undefined && { cause }) };
	response.destroy();
}

/** Why a call that is over failed, if it did; a caller that left before the end is a reason, too. */
function failureOf(call: Call, response: NodeResponse): Call["failure"] {
	const failure = call.failure ?? (response.writableEnded ? undefined : { code: "canceled", reason: "" });
	return failure?.code === "canceled" && call.isStream && response.headersSent ? undefined : failure;
}
