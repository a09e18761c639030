import { type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import {
	compressionGzip,
	universalRequestFromNodeRequest,
	universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type { Authenticator } from "../auth/authenticator.ts";
import { AuditService } from "../gen/audit/v1/audit_service_pb.ts";
import type { AuditServiceCalls } from "./audit-service.ts";
import type { ByteBudget } from "./byte-budget.ts";
import { callKey, contextOf, principalOf, type Route } from "./call.ts";
import { boundDeadline, deadlineOf } from "./deadline.ts";
import { asConnectError } from "./errors.ts";
import { INTERCEPTORS, requestGate, strictJsonDecoder } from "./interceptors.ts";
import { RPC_LIMITS } from "./limits.ts";

export interface RouterOptions {
	readonly calls: AuditServiceCalls;
	readonly authenticator: Authenticator;
	readonly budget: ByteBudget;
}

/** Every RPC there is, over Connect, gRPC and gRPC-Web, by its path. */
export function routeRpcs({ calls, authenticator, budget }: RouterOptions): Route {
	const router = createConnectRouter({
		requestGate: requestGate(authenticator),
		interceptors: INTERCEPTORS,
		acceptCompression: [compressionGzip],
		readMaxBytes: RPC_LIMITS.requestBytes,
		jsonOptions: { ignoreUnknownFields: false },
	});
	addAuditService(router, calls);
	const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

	return (request, response, call) => {
		const handler = handlers.get(request.url?.split("?", 1)[0] ?? "");
		if (!handler) return undefined;
		const universal = universalRequestFromNodeRequest(request, response, undefined, contextOf(call));
		boundDeadline(universal.header, deadlineOf(handler.method.localName));
		const { body, release } = budget.meter(universal.body as AsyncIterable<Uint8Array>);
		response.once("close", release);
		const url = withReadableMessage(universal.url);
		const answer = handler({ ...universal, url, body: withConnectErrors(body) });
		return answer.then((result) => universalResponseToNodeResponse(result, response));
	};
}

/** Each RPC with a JSON codec that names everything wrong with its request: Connect's own names the first thing only. */
function addAuditService(router: ConnectRouter, calls: AuditServiceCalls): void {
	const { writeEvent, batchWrite, query, getEvent } = AuditService.method;
	const strict = (method: (typeof AuditService.methods)[number]) => ({
		jsonOptions: { ignoreUnknownFields: false, textDecoder: strictJsonDecoder(method.input) },
	});
	router.rpc(
		writeEvent,
		(request, { values }) => calls.writeEvent(request, principalOf(values.get(callKey))),
		strict(writeEvent),
	);
	router.rpc(
		batchWrite,
		(request, { values }) => calls.batchWrite(request, principalOf(values.get(callKey))),
		strict(batchWrite),
	);
	router.rpc(query, (request, { values }) => calls.query(request, principalOf(values.get(callKey))), strict(query));
	router.rpc(
		getEvent,
		(request, { values }) => calls.getEvent(request, principalOf(values.get(callKey))),
		strict(getEvent),
	);
}

async function* withConnectErrors(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
	try {
		yield* body;
	} catch (error) {
		throw asConnectError(error);
	}
}

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
