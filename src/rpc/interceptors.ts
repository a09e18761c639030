import type { DescMessage } from "@bufbuild/protobuf";
import { ConnectError, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import type { Authenticator } from "../auth/authenticator.ts";
import { invalidArgument } from "../errors.ts";
import { strictJsonText } from "../event/decode.ts";
import { callKey } from "./call.ts";
import { asConnectError, failureOf, finishConnectError } from "./errors.ts";

/** Around every handler, outermost first. Whatever fails before a handler is reached is `requestGate`'s. */
export const INTERCEPTORS: Interceptor[] = [mapErrors, endInTime];

/**
 * Runs when the headers are there and before any of the body is read: who is not known is not listened to. Also sets
 * up the one place that sees the end of every call, including those that fail inside Connect.
 */
export function requestGate(authenticator: Authenticator) {
	return async (context: HandlerContext): Promise<void> => {
		const call = context.values.get(callKey);
		if (!call) throw new Error("a call reached the gate without its context");
		call.name = context.method.name;
		call.protocol = context.protocolName;
		// Connect hands every error to `abort` before it writes it to the response, whatever the protocol.
		context.signal.addEventListener("abort", () => {
			const reason: unknown = context.signal.reason;
			if (reason instanceof ConnectError) {
				finishConnectError(reason, { inTrailer: context.protocolName === "grpc" });
				call.failure = failureOf(reason);
			} else if (isFault(reason)) {
				call.failure = failureOf(asConnectError(reason));
			}
		});
		try {
			call.principal = await authenticator.authenticate((name) => context.requestHeader.get(name));
		} catch (error) {
			throw asConnectError(error);
		}
	};
}

/** Not the end of a call that went well, and not a caller that left. */
function isFault(reason: unknown): boolean {
	if (!(reason instanceof Error) || reason.name === "AbortError") return false;
	return !("code" in reason && /^(ECONNRESET|EPIPE|ERR_HTTP2_|ERR_STREAM_)/.test(String(reason.code)));
}

/** Connect's JSON codec reads text with this: what is wrong is refused here, all of it and with its paths. */
export function strictJsonDecoder(desc: DescMessage): { decode(bytes?: Uint8Array): string } {
	return {
		decode(bytes = new Uint8Array()) {
			const decoded = strictJsonText(desc, bytes);
			if (decoded.ok) return decoded.input;
			const violations = decoded.violations.map(({ field, message }) => ({ field: field || "request", message }));
			throw asConnectError(invalidArgument(violations, "MALFORMED_REQUEST"));
		},
	};
}

function mapErrors(next: Parameters<Interceptor>[0]): ReturnType<Interceptor> {
	return async (request) => {
		try {
			return await next(request);
		} catch (error) {
			throw asConnectError(error);
		}
	};
}

/** A handler that is still busy at the deadline is not waited for: Connect only signals the deadline. */
function endInTime(next: Parameters<Interceptor>[0]): ReturnType<Interceptor> {
	return async (request) => {
		const { signal } = request;
		let onAbort = () => {};
		const ended = new Promise<never>((_, reject) => {
			onAbort = () => reject(signal.reason as Error);
			if (signal.aborted) onAbort();
			else signal.addEventListener("abort", onAbort);
		});
		try {
			return await Promise.race([next(request), ended]);
		} finally {
			signal.removeEventListener("abort", onAbort);
		}
	};
}
