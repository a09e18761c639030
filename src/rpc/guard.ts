import type { Logger } from "../logger.ts";
import { type Call, type NodeRequest, type NodeResponse, type Route, startCall } from "./call.ts";

/**
 * The outermost layer of both ports: no request ends the process, every response carries `x-request-id`, and the end of
 * every call is logged once.
 *
 * Connect's adapter builds a URL from `Host` or `:authority` and throws, outside of any promise, when they are malformed
 * or missing: such requests end here.
 */
export function guard(serve: Route, logger: Logger): (request: NodeRequest, response: NodeResponse) => void {
	return (request, response) => {
		const call = startCall(request.headers["x-request-id"]);
		// Broken connections are the callers' affair; without listeners they would end the process.
		request.on("error", () => {});
		response.on("error", () => {});
		const fail = (error: unknown) => {
			// A caller that left cannot be answered, and writing to it fails: not a fault of ours.
			if (gone) return;
			call.failure ??= { code: "internal", reason: "INTERNAL", cause: error };
			refuse(request, response, 500);
		};
		let gone = false;
		response.once("close", () => {
			gone = true;
			logEnd(call, response, logger);
		});
		try {
			response.setHeader("x-request-id", call.requestId);
			if (!hasValidAuthority(request)) {
				call.failure = { code: "invalid_argument", reason: "MALFORMED_AUTHORITY" };
				return refuse(request, response, 400);
			}
			serve(request, response, call)?.catch(fail);
		} catch (error) {
			fail(error);
		}
	};
}

function hasValidAuthority(request: NodeRequest): boolean {
	const authority = "authority" in request ? request.authority : request.headers.host;
	return authority !== undefined && /^[^\s/?#@\\]+$/.test(authority) && URL.canParse(`http://${authority}`);
}

/** Answers with a bare status, or cuts off an answer that has begun. */
function refuse(request: NodeRequest, response: NodeResponse, status: number): void {
	try {
		if (response.headersSent) {
			request.destroy();
			return;
		}
		response.writeHead(status);
		response.end();
	} catch {
		// The stream is gone: there is nobody to tell.
	}
}

/** What succeeded is told at debug level, one line per call would drown the rest; what failed through us, as an error. */
function logEnd(call: Call, response: NodeResponse, logger: Logger): void {
	const failure = call.failure ?? (response.writableEnded ? undefined : { code: "canceled", reason: "" });
	const facts = {
		request_id: call.requestId,
		call: call.name,
		protocol: call.protocol,
		key_id: call.principal?.keyId,
		ms: Math.round(performance.now() - call.startedAt),
	};
	if (!failure) return logger.debug(facts, "call answered");
	const { code, reason } = failure;
	const cause = "cause" in failure && failure.cause !== undefined ? { cause: describe(failure.cause) } : {};
	const level = code === "internal" ? "error" : code === "unavailable" ? "warn" : "info";
	logger[level]({ ...facts, code, reason, ...cause }, "call failed");
}

/** An error without what a caller may have put into it: the database repeats values in its messages. */
function describe(cause: unknown): Record<string, unknown> {
	if (!(cause instanceof Error)) return { type: typeof cause };
	const { name, message, stack, code, severity } = cause as Error & { code?: unknown; severity?: unknown };
	const frames = stack?.split("\n").filter((line) => /^\s+at /.test(line));
	return { type: name, code, ...(severity === undefined && { message }), at: frames };
}
