import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { ConnectError, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import type { Authenticator } from "../auth/authenticator.ts";
import { authorize, type RpcName } from "../auth/permissions.ts";
import type { Violation } from "../errors.ts";
import { strictJsonText } from "../event/decode.ts";
import { findUnknownFields } from "../event/wire-shape.ts";
import { callKey } from "./call.ts";
import { boundsKey } from "./call-bounds.ts";
import { asConnectError, failureOf, finishConnectError, malformedRequest } from "./errors.ts";
import { answerBytesOf } from "./limits.ts";
import { bodyKey, findMalformedIn } from "./malformed.ts";
import { isOpen, nameOf } from "./open-services.ts";
import { boundStreams, type StreamPlaces } from "./stream-limits.ts";
import { untilStopped } from "./until-stopped.ts";
import { whileAuthenticated } from "./while-authenticated.ts";

/**
 * Around every handler, outermost first. Whatever fails before a handler is reached is `requestGate`'s.
 *
 * @param places of streams
 * @param stopping aborted when the service is to stop: streams, which would go on, end then
 */
export function interceptors(places: StreamPlaces, stopping: AbortSignal): Interceptor[] {
	return [
		mapErrors,
		boundStreams(places),
		endStreamsWhen(stopping),
		whileAuthenticated,
		endInTime,
		refuseUnknownFields,
	];
}

/**
 * Runs when the headers are there and before any of the body is read: who is not known, or may not call this at all, is
 * not listened to. Also sets up the one place that sees the end of every call, including those that fail inside Connect.
 */
export function requestGate(authenticator: Authenticator) {
	return async (context: HandlerContext): Promise<void> => {
		const call = context.values.get(callKey);
		if (!call) throw new Error("a call reached the gate without its context");
		call.name = nameOf(context);
		call.protocol = context.protocolName;
		call.isStream = context.method.methodKind !== "unary";
		// Connect hands every error to `abort` before it writes it to the response, whatever the protocol.
		context.signal.addEventListener("abort", () => {
			const reason: unknown = context.signal.reason;
			if (reason instanceof ConnectError) {
				const inTrailer = context.protocolName === "grpc";
				finishConnectError(reason, { inTrailer, whereMalformed: () => findMalformedIn(context) });
				call.failure = failureOf(reason);
			} else if (isFault(reason)) {
				call.failure = failureOf(asConnectError(reason));
			}
		});
		if (isOpen(context.service)) return;
		try {
			call.authenticate = () => authenticator.authenticate(call.credentials);
			call.principal = await call.authenticate();
			authorize(call.principal, context.method.localName as RpcName, []);
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

/** The JSON codec of an RPC, which names everything wrong with a request: Connect's own names the first thing only. */
export function strictJson({ input }: DescMethod) {
	return { jsonOptions: { ignoreUnknownFields: false, textDecoder: strictJsonDecoder(input) } };
}

/** Connect's JSON codec reads text with this: what is wrong is refused here, all of it and with its paths. */
function strictJsonDecoder(desc: DescMessage): { decode(bytes?: Uint8Array): string } {
	return {
		decode(bytes = new Uint8Array()) {
			const decoded = strictJsonText(desc, bytes);
			if (decoded.ok) return decoded.input;
			throw asConnectError(malformedRequest(fromTheTop(decoded.violations)));
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

/**
 * A handler that is still busy at the deadline is not waited for, and none begins to make an answer for which there is no
 * room. The answer of a streaming RPC has no deadline but its caller's, which Connect keeps.
 */
function endInTime(next: Parameters<Interceptor>[0]): ReturnType<Interceptor> {
	return (request) => {
		const bounds = request.contextValues.get(boundsKey);
		if (!bounds || request.stream) return next(request);
		const answer = async () => {
			// What needs no key is answered in a few bytes, and must not wait for what strangers leave unread.
			if (!isOpen(request.service)) await bounds.roomForAnswer(answerBytesOf(request.method.localName));
			return next(request);
		};
		return bounds.inTime(answer());
	};
}

function endStreamsWhen(stopping: AbortSignal): Interceptor {
	return (next) => async (request) => {
		const response = await next(request);
		return response.stream ? { ...response, message: untilStopped(response.message, stopping) } : response;
	};
}

/** Fields this version does not know would be lost. JSON's are refused when it is read. */
function refuseUnknownFields(next: Parameters<Interceptor>[0]): ReturnType<Interceptor> {
	return async (request) => {
		request.contextValues.delete(bodyKey);
		const unknown = request.stream ? [] : findUnknownFields(request.method.input, request.message);
		if (unknown.length > 0) throw malformedRequest(fromTheTop(unknown));
		return next(request);
	};
}

function fromTheTop(violations: readonly Violation[]): Violation[] {
	return violations.map(({ field, message }) => ({ field: field || "request", message }));
}
