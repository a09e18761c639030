import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { type ContextValues, createContextKey, createContextValues } from "@connectrpc/connect";
import type { universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { ClientCertificate } from "../auth/mtls.ts";
import type { Principal } from "../auth/principal.ts";
import { readRequestId, startCallTrace, type Trace } from "../trace.ts";
import type { ClientAddresses } from "./client-address.ts";

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
	readonly startedAt: number;
	/** The RPC's name, or the REST route. */
	name?: string;
	protocol?: string;
	/** What the connection it came by was opened with. */
	certificate?: ClientCertificate | undefined;
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

export function startCall({ headers, socket }: NodeRequest, addresses: ClientAddresses): Call {
	const header = (name: string) => {
		const values = headers[name];
		return typeof values === "string" ? values : undefined;
	};
	const requestId = readRequestId(header("x-request-id")) ?? randomUUID();
	const trace = startCallTrace(header, requestId);
	const address = addresses.of(socket.remoteAddress, headers);
	return { requestId, trace, address, startedAt: performance.now(), batchIds: new Set() };
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
export function principalOf(call: Call | undefined): Principal {
	if (!call?.principal) throw new Error("a call was handled before it was authenticated");
	return call.principal;
}
