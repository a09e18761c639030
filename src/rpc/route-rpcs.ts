import { type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import {
	compressionGzip,
	universalRequestFromNodeRequest,
	universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type { Authenticator } from "../auth/authenticator.ts";
import { AuditError } from "../errors.ts";
import { AuditService } from "../gen/audit/v1/audit_service_pb.ts";
import type { AuditServiceCalls } from "./audit-service.ts";
import type { ByteBudget } from "./byte-budget.ts";
import { callKey, callOf, contextOf, principalOf, type Route } from "./call.ts";
import { boundsKey, CallBounds } from "./call-bounds.ts";
import { takeTimeout } from "./deadline.ts";
import { asConnectError } from "./errors.ts";
import { INTERCEPTORS, requestGate, strictJsonDecoder } from "./interceptors.ts";
import { type DoorLimits, deadlineOf, RPC_LIMITS } from "./limits.ts";
import { addOpenServices, isOpen, OPEN_REQUEST_BYTES } from "./open-services.ts";
import { sendError } from "./rest-response.ts";
import type { Readiness } from "./route-health.ts";

export interface RouterOptions {
	readonly calls: AuditServiceCalls;
	readonly authenticator: Authenticator;
	readonly budget: ByteBudget;
	readonly limits: DoorLimits;
	readonly readiness: () => Promise<Readiness>;
}

export interface RpcRoute {
	readonly route: Route;
	/** Tells those who watch the service's health that it ends. Before the ports close: they wait for open streams. */
	close(): void;
}

/** Every RPC there is, over Connect, gRPC and gRPC-Web, by its path. */
export function routeRpcs({ calls, authenticator, budget, limits, readiness }: RouterOptions): RpcRoute {
	const router = createConnectRouter({
		requestGate: requestGate(authenticator),
		interceptors: INTERCEPTORS,
		acceptCompression: [compressionGzip],
		readMaxBytes: RPC_LIMITS.requestBytes,
		jsonOptions: { ignoreUnknownFields: false },
	});
	addAuditService(router, calls);
	const health = addOpenServices(router, readiness);
	const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

	const route: Route = (request, response, call) => {
		const handler = handlers.get(request.url?.split("?", 1)[0] ?? "");
		if (!handler) return undefined;
		const context = contextOf(call);
		const universal = universalRequestFromNodeRequest(request, response, undefined, context);
		const { methodKind } = handler.method;
		const limitMs = deadlineOf(handler.method.localName, limits);
		// A stream's own timeout is Connect's to keep: this one is for getting it under way.
		const ms = methodKind === "unary" ? takeTimeout(universal.header, limitMs) : limitMs;
		// Whoever watches may hear nothing for days.
		if (methodKind === "server_streaming") response.setTimeout(0);
		const bounds = new CallBounds(request, response, call, { ms, budget });
		context.set(boundsKey, bounds);
		const url = withReadableMessage(universal.url);
		const maxBytes = isOpen(handler.service) ? OPEN_REQUEST_BYTES : RPC_LIMITS.requestBytes;
		const isUpload = methodKind === "bidi_streaming" || methodKind === "client_streaming";
		const body = isUpload ? universal.body : bodyOf(bounds, universal.header, maxBytes);
		return handler({ ...universal, url, body }).then((result) => {
			const { status } = result;
			if (status !== 405 && status !== 415) return universalResponseToNodeResponse(result, response);
			// Not yet an RPC, and nothing that Connect puts a body to.
			call.name = handler.method.name;
			const headers: Record<string, string> = status === 405 ? { allow: handler.allowedMethods.join(", ") } : {};
			return sendError(request, response, call, NOT_AN_RPC[status], { status, headers });
		});
	};
	return { route, close: () => health.close() };
}

const NOT_AN_RPC = {
	405: new AuditError("invalid_argument", "an RPC is called with POST, one that only reads also with GET", {
		reason: "METHOD_NOT_ALLOWED",
	}),
	415: new AuditError("invalid_argument", "the content type must be one of Connect, gRPC or gRPC-Web", {
		reason: "UNSUPPORTED_MEDIA_TYPE",
	}),
} as const;

/** Each RPC with a JSON codec that names everything wrong with its request: Connect's own names the first thing only. */
function addAuditService(router: ConnectRouter, calls: AuditServiceCalls): void {
	const { writeEvent, batchWrite, query, getEvent } = AuditService.method;
	const strict = (method: (typeof AuditService.methods)[number]) => ({
		jsonOptions: { ignoreUnknownFields: false, textDecoder: strictJsonDecoder(method.input) },
	});
	router.rpc(writeEvent, (request, { values }) => calls.writeEvent(request, callOf(values)), strict(writeEvent));
	router.rpc(batchWrite, (request, { values }) => calls.batchWrite(request, callOf(values)), strict(batchWrite));
	router.rpc(query, (request, { values }) => calls.query(request, principalOf(values.get(callKey))), strict(query));
	router.rpc(
		getEvent,
		(request, { values }) => calls.getEvent(request, principalOf(values.get(callKey))),
		strict(getEvent),
	);
}

/** The request's body, read when Connect asks for it: that is after `requestGate`. */
async function* bodyOf(bounds: CallBounds, header: Headers, maxBytes: number): AsyncIterable<Uint8Array> {
	const coding = header.get("grpc-encoding") ?? header.get("content-encoding") ?? "identity";
	try {
		yield await bounds.readBody({
			maxBytes: maxBytes + ENVELOPE_BYTES,
			isCompressed: coding !== "identity",
		});
	} catch (error) {
		throw asConnectError(error);
	}
}

/** What gRPC puts around a message. Connect measures the message itself. */
const ENVELOPE_BYTES = 5;

/**
 * A Connect GET carries its request in the URL. If that is to be base64 and is not, Connect fails with an internal error;
 * so it is replaced by a request that is malformed in every format, which Connect refuses as it should.
 */
function withReadableMessage(text: string): string {
	const url = new URL(text);
	const message = url.searchParams.get("message") ?? "";
	if (url.searchParams.get("base64") !== "1" || /^[\w+/-]*={0,2}$/.test(message)) return text;
	url.searchParams.delete("base64");
	url.searchParams.set("message", "\0");
	return url.href;
}
