import type { RpcName } from "../auth/permissions.ts";
import type { Asked } from "../query/asked.ts";
import type { Read, Recorded } from "../query/read-log.ts";
import { type Call, principalOf } from "./call.ts";

/**
 * Whether an answer shows what is in tenants' logs, so that each of them has to be told of it (docs/reads.md). An RPC that is
 * missing here does not compile. What only tells of keys and tenants is not recorded, nor what says of events that they were
 * stored.
 */
export const RECORDED = {
	writeEvent: false,
	batchWrite: false,
	query: true,
	getEvent: true,
	export: true,
	listDeadLetters: true,
	getDeadLetter: true,
	redriveDeadLetters: false,
	discardDeadLetters: false,
	createApiKey: false,
	listApiKeys: false,
	rotateApiKey: false,
	revokeApiKey: false,
	createTenant: false,
	listTenants: false,
	renameTenant: false,
	disableTenant: false,
	enableTenant: false,
} as const satisfies Record<RpcName, boolean>;

/**
 * The methods that answer a service's RPCs: one that has to be recorded and gives an answer that was not, does not compile. A
 * stream is recorded before its first message can be asked for.
 */
export type Answers<Service extends { readonly method: object }> = {
	[Rpc in RpcName & keyof Service["method"]]: (
		...request: never[]
	) => Promise<(typeof RECORDED)[Rpc] extends true ? Recorded<Answer<Service["method"][Rpc]>> : unknown>;
};

type Answer<Method> = Method extends { readonly methodKind: "unary" } ? unknown : AsyncIterable<unknown>;

/** What is known of a read by its call. */
export function readBy(
	call: Call,
	method: { readonly name: string },
	asked: Asked,
): Omit<Read, "tenantId" | "returned"> {
	const { address, requestId, protocol = "rest" } = call;
	return { principal: principalOf(call), method: method.name, protocol, address, requestId, asked };
}
