import type { Interceptor } from "@connectrpc/connect";
import { boundTenant, type Principal } from "../auth/principal.ts";
import { AuditError } from "../errors.ts";
import { callKey } from "./call.ts";
import { boundsKey, type CallBounds } from "./call-bounds.ts";
import type { DoorLimits } from "./limits.ts";
import { Quota } from "./quota.ts";

/**
 * So many open streams of one key, and of all keys bound to one tenant: everything that streams and needs a key, whatever it
 * is for and at whichever door. A key for several tenants counts as itself alone.
 */
export class StreamPlaces {
	readonly #ofKeys: Quota;
	readonly #ofTenants: Quota;

	constructor({ keyStreams, tenantStreams }: Pick<DoorLimits, "keyStreams" | "tenantStreams">) {
		this.#ofKeys = new Quota(Number.MAX_SAFE_INTEGER, keyStreams);
		this.#ofTenants = new Quota(Number.MAX_SAFE_INTEGER, tenantStreams);
	}

	/** Takes a place until the call is over. @throws AuditError resource_exhausted */
	take(principal: Principal, bounds: CallBounds): void {
		const tenantId = boundTenant(principal);
		if (!this.#ofKeys.take(principal.id, 1)) throw tooManyStreams("this key");
		bounds.whenOver(() => this.#ofKeys.giveBack(principal.id, 1));
		if (tenantId !== undefined) {
			if (!this.#ofTenants.take(tenantId, 1)) throw tooManyStreams("this tenant");
			bounds.whenOver(() => this.#ofTenants.giveBack(tenantId, 1));
		}
	}
}

/** Every streaming RPC takes a place. What needs no key has bounds of its own. */
export function boundStreams(places: StreamPlaces): Interceptor {
	return (next) => (request) => {
		const principal = request.contextValues.get(callKey)?.principal;
		const bounds = request.contextValues.get(boundsKey);
		if (request.stream && principal && bounds) places.take(principal, bounds);
		return next(request);
	};
}

function tooManyStreams(whose: string): AuditError {
	const message = `${whose} has as many streams open as it may; end one first`;
	return new AuditError("resource_exhausted", message, { reason: "TOO_MANY_STREAMS" });
}
