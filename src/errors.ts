/**
 * What can go wrong, in the words every door uses. A code exists only where some caller must act differently; the
 * doors map it to their own (`rpc/errors.ts`). Programmer errors are not AuditErrors: they crash.
 */
export type ErrorCode =
	| "invalid_argument"
	| "unauthenticated"
	| "permission_denied"
	| "not_found"
	| "already_exists"
	| "failed_precondition"
	| "resource_exhausted"
	| "deadline_exceeded"
	| "unavailable"
	| "internal";

/** One thing wrong with a request: where (a path such as `events[3].actor.id`) and what. Never holds the value sent. */
export interface Violation {
	field: string;
	message: string;
}

export interface AuditErrorOptions {
	/** A stable UPPER_SNAKE word for programs. */
	reason: string;
	violations?: Violation[];
	/** After how many milliseconds a retry may help; absent where none does. */
	retryAfterMs?: number;
	cause?: unknown;
}

/** An error meant for the caller. `message` says what to change and holds nothing secret. */
export class AuditError extends Error {
	readonly code: ErrorCode;
	readonly reason: string;
	readonly violations: Violation[];
	readonly retryAfterMs: number | undefined;

	constructor(code: ErrorCode, message: string, options: AuditErrorOptions) {
		super(message, { cause: options.cause });
		this.name = "AuditError";
		this.code = code;
		this.reason = options.reason;
		this.violations = options.violations ?? [];
		this.retryAfterMs = options.retryAfterMs;
	}
}

/** The error for input that breaks rules: the message names the first violation, the list holds them all. */
export function invalidArgument(violations: Violation[], reason = "INVALID_EVENT"): AuditError {
	const [first] = violations;
	const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : "";
	const where = first?.field ? `${first.field}: ` : "";
	const message = first ? `${where}${first.message}${more}` : "invalid request";
	return new AuditError("invalid_argument", message, { reason, violations });
}

/** The one answer for a tenant that does not exist and for one the key may not see: they cannot be told apart. */
export function tenantNotFound(): AuditError {
	return new AuditError("not_found", "no such tenant for this key", { reason: "TENANT_NOT_FOUND" });
}

/** For whoever may see the tenant: nothing is written to it, and only operators read it. */
export function tenantDisabled(): AuditError {
	return new AuditError("permission_denied", "the tenant is disabled; an operator may enable it", {
		reason: "TENANT_DISABLED",
	});
}
