import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { type ContextValues, createContextKey, createContextValues } from "@connectrpc/connect";
import type { universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Credentials } from "../auth/authenticator.ts";
import type { Principal } from "../auth/principal.ts";
import { readRequestId, startCallTrace, type Trace } from "../trace.ts";
import type { ClientAddresses } from "./client-address.ts";
import { certificateOf } from "./tls-front.ts";

/** A request and its response over HTTP/1.1 or HTTP/2. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;
export type NodeResponse = Parameters<typeof universalResponseToNodeResponse>[1];

/** Answers a request, or says that it is not for it. */
export type Route = (request: NodeRequest, response: NodeResponse, call: Call) => Promise<void> | undefined;

/** One request at the RPC or REST door: what is logged of it at its end. */
export interface Call {
	/** The caller's `x-request-id` if it is fit to be repeated, else a new one. On every response. */
	readonly requestId: string;
	/** Continued from the caller's, if it brings one. */
	readonly trace: Trace;
	/** Where it comes from, as far as is known for sure: the peer, or what trusted proxies say of their callers. */
	readonly address: string;
	/** What it brings to prove who sends it. */
	readonly credentials: Credentials;
	readonly startedAt: number;
	/** The RPC's name, or the REST route. */
	name?: string;
	protocol?: string;
	principal?: Principal;
	/** The size of its body as it was sent, once it is read. */
	bodyBytes?: number;
	/** Asks anew who is calling: of a stream's caller, again and again. */
	authenticate?: () => Promise<Principal>;
	/** How many events it brings, once they are read. */
	events?: number;
	/** The batches its events are in. */
	readonly batchIds: Set<bigint>;
	/** Its answer goes on until its caller leaves: that is no failure. */
	isStream?: boolean;
	/** Set if it failed. */
	failure?: { readonly code: string; readonly reason: string; readonly cause?: unknown };
}

export function startCall(request: NodeRequest, addresses: ClientAddresses): Call {
	const { headers, socket } = request;
	const header = (name: string) => {
		const values = headers[name];
		return typeof values === "string" ? values : undefined;
	};
	const requestId = readRequestId(header("x-request-id")) ?? randomUUID();
	const trace = startCallTrace(header, requestId);
	const address = addresses.of(socket.remoteAddress, headers);
	const credentials = { header: (name: string) => wholeHeader(request, name), certificate: certificateOf(socket) };
	return { requestId, trace, address, credentials, startedAt: performance.now(), batchIds: new Set() };
}

/**
 * A header with all its values, also one that must come once: of those Node shows the first alone, and what stands before
 * the service may have gone by the last.
 */
export function wholeHeader({ rawHeaders }: NodeRequest, name: string): string | undefined {
	const values = rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === name);
	return values.length > 0 ? values.join(", ") : undefined;
}

/** Where Connect's handlers find the call they belong to. */
export const callKey = createContextKey<Call | undefined>(undefined);

export function contextOf(call: Call): ContextValues {
	return createContextValues().set(callKey, call);
}

/** The call a handler of Connect's is working on. */
export function callOf(values: ContextValues): Call {
	const call = values.get(callKey);
	if (!call) throw new Error("a call reached its handler without its context");
	return call;
}

/** The caller of a call that passed authentication. */
export function principalOf(call: Pick<Call, "principal"> | undefined): Principal {
	if (!call?.principal) throw new Error("a call was handled before it was authenticated");
	return call.principal;
}
