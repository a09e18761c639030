import {
	type ConnectRouter,
	type ConnectRouterOptions,
	type ContextValues,
	createConnectRouter,
	type HandlerContext,
} from "@connectrpc/connect";
import {
	compressionGzip,
	universalRequestFromNodeRequest,
	universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type { Authenticator } from "../auth/authenticator.ts";
import { AuditError } from "../errors.ts";
import { AuditService, type ExportRequest } from "../gen/audit/v1/audit_service_pb.ts";
import type { AccessServiceCalls } from "./access-service.ts";
import type { AuditServiceCalls } from "./audit-service.ts";
import { callOf, contextOf, type Route } from "./call.ts";
import { type Budgets, boundsKey, CallBounds } from "./call-bounds.ts";
import type { DeadLetterServiceCalls } from "./dead-letter-service.ts";
import { takeTimeout } from "./deadline.ts";
import { asConnectError, UNSUPPORTED_MEDIA_TYPE } from "./errors.ts";
import { interceptors, requestGate, strictJson } from "./interceptors.ts";
import { type DoorLimits, deadlineOf, RPC_LIMITS } from "./limits.ts";
import { bodyKey, ENVELOPE_BYTES, refuseReservedFlags } from "./malformed.ts";
import { addOpenServices, isOpen, nameOf, OPEN_REQUEST_BYTES } from "./open-services.ts";
import { sendError } from "./rest-response.ts";
import { addAccessService } from "./route-access.ts";
import { addDeadLetterService } from "./route-dead-letters.ts";
import type { Readiness } from "./route-health.ts";
import { addTenantService } from "./route-tenants.ts";
import { StreamPlaces } from "./stream-limits.ts";
import type { TenantServiceCalls } from "./tenant-service.ts";

export interface RouterOptions {
	readonly calls: AuditServiceCalls;
	readonly deadLetters: DeadLetterServiceCalls;
	readonly access: AccessServiceCalls;
	readonly tenants: TenantServiceCalls;
	readonly authenticator: Authenticator;
	readonly budgets: Budgets;
	readonly limits: DoorLimits;
	/** Of streams, at every door. */
	readonly places: StreamPlaces;
	/** Aborted when the service is to stop. */
	readonly stopping: AbortSignal;
	readonly readiness: () => Promise<Readiness>;
}

export interface RpcRoute {
	readonly route: Route;
	/** Tells those who watch the service's health that it ends. Before the ports close: they wait for open streams. */
	close(): void;
}

/** Every RPC there is, over Connect, gRPC and gRPC-Web, by its path. */
export function routeRpcs(options: RouterOptions): RpcRoute {
	const { calls, deadLetters, access, tenants, authenticator, readiness, limits, stopping, places } = options;
	const common = routerOptions(limits, stopping, places);
	const router = createConnectRouter({ ...common, requestGate: requestGate(authenticator) });
	addAuditService(router, calls);
	addDeadLetterService(router, deadLetters);
	addAccessService(router, access);
	addTenantService(router, tenants);
	const health = addOpenServices(router, readiness);
	return { route: routeTo(router, options), close: () => health.close() };
}

/** What all RPCs have in common. */
export function routerOptions(
	limits: DoorLimits,
	stopping: AbortSignal,
	places = new StreamPlaces(limits),
): ConnectRouterOptions {
	return {
		interceptors: interceptors(places, stopping),
		acceptCompression: [compressionGzip],
		readMaxBytes: RPC_LIMITS.requestBytes,
		writeMaxBytes: RPC_LIMITS.answerBytes,
		jsonOptions: { ignoreUnknownFields: false },
	};
}

/** Calls a router's RPCs within their bounds, whatever their kind. */
export function routeTo(router: ConnectRouter, { budgets, limits }: Pick<RouterOptions, "budgets" | "limits">): Route {
	const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

	return (request, response, call) => {
		const handler = handlers.get(request.url?.split("?", 1)[0] ?? "");
		if (!handler) return undefined;
		if (request.method !== "POST") {
			call.name = nameOf(handler);
			return sendError(request, response, call, POST_ONLY, { status: 405, headers: { allow: "POST" } });
		}
		const context = contextOf(call);
		const universal = universalRequestFromNodeRequest(request, response, undefined, context);
		const { localName, methodKind } = handler.method;
		const limitMs = deadlineOf(localName, limits);
		// A stream goes on for as long as its caller wants: of its timeout Connect keeps the clock.
		const ms = methodKind === "unary" ? takeTimeout(universal.header, limitMs) : limitMs;
		const bounds = new CallBounds(request, response, call, { ms, budgets });
		context.set(boundsKey, bounds);
		const body = bodyOf(bounds, {
			isCompressed: takeCodings(universal.header),
			isStream: methodKind === "client_streaming" || methodKind === "bidi_streaming",
			maxBytes: isOpen(handler.service) ? OPEN_REQUEST_BYTES : RPC_LIMITS.requestBytes,
			header: universal.header,
			context,
		});
		return handler({ ...universal, body }).then((result) => {
			const { status } = result;
			if (status !== 415 && status !== 505) return universalResponseToNodeResponse(result, response);
			// Not yet an RPC, and nothing that Connect puts a body to.
			call.name = nameOf(handler);
			return sendError(request, response, call, NOT_AN_RPC[status], { status });
		});
	};
}

/** Connect's GET would put what is asked for into the URL, where proxies and histories keep it. */
const POST_ONLY = new AuditError("invalid_argument", "an RPC is called with POST", { reason: "METHOD_NOT_ALLOWED" });

const NOT_AN_RPC = {
	415: new AuditError("invalid_argument", "the content type must be one of Connect, gRPC or gRPC-Web", {
		reason: UNSUPPORTED_MEDIA_TYPE,
	}),
	505: new AuditError("invalid_argument", "streams in both directions need HTTP/2", { reason: "HTTP2_REQUIRED" }),
} as const;

/**
 * More than any message has. Whoever wants a file compressed says so in his request; by message, only because a client takes
 * that, it would cost more than all the rest of an export.
 */
const NEVER = 0xffffffff;

function addAuditService(router: ConnectRouter, calls: AuditServiceCalls): void {
	const { writeEvent, batchWrite, query, getEvent, aggregate, export: exportEvents } = AuditService.method;
	router.rpc(writeEvent, (request, { values }) => calls.writeEvent(request, callOf(values)), strictJson(writeEvent));
	router.rpc(batchWrite, (request, { values }) => calls.batchWrite(request, callOf(values)), strictJson(batchWrite));
	router.rpc(query, (request, { values }) => calls.query(request, callOf(values)), strictJson(query));
	router.rpc(getEvent, (request, { values }) => calls.getEvent(request, callOf(values)), strictJson(getEvent));
	async function* answer(request: ExportRequest, { values, signal }: HandlerContext) {
		yield* await calls.export(request, callOf(values), signal);
	}
	router.rpc(exportEvents, answer, { ...strictJson(exportEvents), compressMinBytes: NEVER });
	router.rpc(aggregate, (request, { values }) => calls.aggregate(request, callOf(values)), strictJson(aggregate));
}

/** The names of content codings have no case (RFC 9110 8.4.1), but to Connect. @returns whether any compresses */
function takeCodings(header: Headers): boolean {
	for (const name of [...CODINGS, "accept-encoding", "grpc-accept-encoding", "connect-accept-encoding"]) {
		const value = header.get(name);
		if (value !== null) header.set(name, value.toLowerCase());
	}
	// Whichever of them it is that Connect goes by.
	return CODINGS.some((name) => (header.get(name) ?? "identity") !== "identity");
}

const CODINGS = ["content-encoding", "grpc-encoding", "connect-content-encoding"];

/** The request's body, read when Connect asks for it: that is after `requestGate`. */
async function* bodyOf(
	bounds: CallBounds,
	call: { isCompressed: boolean; isStream: boolean; maxBytes: number; header: Headers; context: ContextValues },
): AsyncIterable<Uint8Array> {
	const limits = { maxBytes: call.maxBytes + ENVELOPE_BYTES, isCompressed: call.isCompressed };
	try {
		if (call.isStream) return yield* bounds.readStream(limits);
		const bytes = await bounds.readBody(limits);
		if (call.header.get("content-type")?.startsWith("application/grpc")) refuseReservedFlags(bytes);
		call.context.set(bodyKey, bytes);
		yield bytes;
	} catch (error) {
		throw asConnectError(error);
	}
}
