import type { Interceptor } from "@connectrpc/connect";
import { boundTenant } from "../auth/principal.ts";
import { AuditError } from "../errors.ts";
import { callKey } from "./call.ts";
import { boundsKey } from "./call-bounds.ts";
import type { DoorLimits } from "./limits.ts";
import { Quota } from "./quota.ts";

/**
 * So many open streams of one key, and of all keys bound to one tenant: every streaming RPC that needs a key, whatever it
 * is for. A key for several tenants counts as itself alone.
 */
export function boundStreams({
	keyStreams,
	tenantStreams,
}: Pick<DoorLimits, "keyStreams" | "tenantStreams">): Interceptor {
	const ofKeys = new Quota(Number.MAX_SAFE_INTEGER, keyStreams);
	const ofTenants = new Quota(Number.MAX_SAFE_INTEGER, tenantStreams);
	return (next) => (request) => {
		const principal = request.contextValues.get(callKey)?.principal;
		const bounds = request.contextValues.get(boundsKey);
		// What needs no key has bounds of its own.
		if (!request.stream || !principal || !bounds) return next(request);
		const tenantId = boundTenant(principal);
		if (!ofKeys.take(principal.id, 1)) throw tooManyStreams("this key");
		bounds.whenOver(() => ofKeys.giveBack(principal.id, 1));
		if (tenantId !== undefined) {
			if (!ofTenants.take(tenantId, 1)) throw tooManyStreams("this tenant");
			bounds.whenOver(() => ofTenants.giveBack(tenantId, 1));
		}
		return next(request);
	};
}

function tooManyStreams(whose: string): AuditError {
	const message = `${whose} has as many streams open as it may; end one first`;
	return new AuditError("resource_exhausted", message, { reason: "TOO_MANY_STREAMS" });
}
