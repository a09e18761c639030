import type { Interceptor } from "@connectrpc/connect";
import type { Principal } from "../auth/principal.ts";
import { unauthenticated } from "../auth/unauthenticated.ts";
import type { AuditError, ErrorCode } from "../errors.ts";
import { type Call, callKey } from "./call.ts";
import { asAuditError } from "./errors.ts";
import { messagesUntil, orStopped } from "./until-stopped.ts";

/** How often a stream's credential is looked at again. */
export const RECHECK_MS = 5_000;
/**
 * How long a stream goes on while nobody can tell whether its credential is still good. With the time a found key is kept
 * (`KEY_KEPT_MS`) this is less than `REVOKED_WITHIN_MS`.
 */
export const UNCONFIRMED_MS = 14_000;

/**
 * Ends a streaming RPC when its caller is no longer who he was when it began: his credential was revoked or has expired, or
 * his rights are others now. Every kind of stream, every kind of credential: the authenticator is simply asked again.
 */
export function whileAuthenticated(next: Parameters<Interceptor>[0]): ReturnType<Interceptor> {
	return async (request) => {
		const { authenticate, principal } = request.contextValues.get(callKey) ?? {};
		if (!request.stream || !authenticate || !principal) return next(request);
		const over = watchCredential(authenticate, principal, request.signal);
		const why = () => over.reason as AuditError;
		const response = await orStopped(next(request), over, why);
		return response.stream ? { ...response, message: messagesUntil(response.message, over, why) } : response;
	};
}

/** As `whileAuthenticated`, for what streams at another door. @param callEnds aborted with the call */
export function messagesWhileAuthenticated<T>(
	messages: AsyncIterable<T>,
	{ authenticate, principal }: Pick<Call, "authenticate" | "principal">,
	callEnds: AbortSignal,
): AsyncIterable<T> {
	if (!authenticate || !principal) throw new Error("a stream was to be given before its caller was known");
	const over = watchCredential(authenticate, principal, callEnds);
	return messagesUntil(messages, over, () => over.reason as AuditError);
}

/**
 * Confirmed: the last answer was the same caller → doubtful: no answer yet, or none could be had → over: another answer, or
 * in doubt for too long.
 *
 * @param callEnds aborted with the call, with which watching ends
 * @returns aborted when it is over, with the AuditError the caller gets
 */
function watchCredential(
	authenticate: () => Promise<Principal>,
	principal: Principal,
	callEnds: AbortSignal,
): AbortSignal {
	const over = new AbortController();
	let confirmedAt = performance.now();
	let isAsking = false;
	let trouble = unauthenticated();
	const ask = async () => {
		const askedAt = performance.now();
		isAsking = true;
		try {
			if (!isSame(await authenticate(), principal)) throw unauthenticated();
			confirmedAt = askedAt;
		} catch (error) {
			trouble = asAuditError(error);
			if (!DOUBTFUL.has(trouble.code)) over.abort(trouble);
		} finally {
			isAsking = false;
		}
	};
	const timer = setInterval(() => {
		if (performance.now() - confirmedAt > UNCONFIRMED_MS) over.abort(trouble);
		else if (!isAsking) void ask();
	}, RECHECK_MS);
	for (const end of [callEnds, over.signal]) {
		end.addEventListener("abort", () => clearInterval(timer), { once: true });
		if (end.aborted) clearInterval(timer);
	}
	return over.signal;
}

/** What says nothing of the credential: that it could not be looked at. */
const DOUBTFUL: ReadonlySet<ErrorCode> = new Set(["unavailable", "resource_exhausted", "internal"]);

/** All of a principal but what people call it. */
function isSame(a: Principal, b: Principal): boolean {
	return textOf(a) === textOf(b);
}

function textOf({ kind, id, keyId, roles, tenants, maskedUnits }: Principal): string {
	return JSON.stringify([
		kind,
		id,
		keyId,
		[...roles].sort(),
		tenants === "all" ? tenants : [...tenants].sort(),
		[...maskedUnits].sort(),
	]);
}
