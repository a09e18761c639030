import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { type ContextValues, createContextKey, createContextValues } from "@connectrpc/connect";
import type { universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Principal } from "../auth/principal.ts";

/** A request and its response over HTTP/1.1 or HTTP/2. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;
export type NodeResponse = Parameters<typeof universalResponseToNodeResponse>[1];

/** Answers a request, or says that it is not for it. */
export type Route = (request: NodeRequest, response: NodeResponse, call: Call) => Promise<void> | undefined;

/** One request at the RPC or REST door: what is logged of it at its end. */
export interface Call {
	/** The caller's `x-request-id` if it is fit to be repeated, else a new one. On every response. */
	readonly requestId: string;
	readonly startedAt: number;
	/** The RPC's name, or the REST route. */
	name?: string;
	protocol?: string;
	principal?: Principal;
	/** Set if it failed. */
	failure?: { readonly code: string; readonly reason: string; readonly cause?: unknown };
}

export function startCall(requestId: string | string[] | undefined): Call {
	const fit = typeof requestId === "string" && /^[\w.:/+=-]{1,128}$/.test(requestId);
	return { requestId: fit ? requestId : randomUUID(), startedAt: performance.now() };
}

/** Where Connect's handlers find the call they belong to. */
export const callKey = createContextKey<Call | undefined>(undefined);

export function contextOf(call: Call): ContextValues {
	return createContextValues().set(callKey, call);
}

/** The caller of a call that passed authentication. */
export function principalOf(call: Call | undefined): Principal {
	if (!call?.principal) throw new Error("a call was handled before it was authenticated");
	return call.principal;
}
