import { AuditError, type ErrorCode } from "../errors.ts";
import { CommandError, UsageError } from "./command-line.ts";

/** Whether an error is for the person at the keyboard; all others are programmer errors. */
export function isExpected(error: unknown): error is Error {
	if (error instanceof AuditError || error instanceof UsageError || error instanceof CommandError) return true;
	// What files, sockets, gzip and PostgreSQL report has a code, and a person can mend it; ERR_* are Node's complaints
	// about our own code.
	const { code } = error as NodeJS.ErrnoException;
	return error instanceof Error && typeof code === "string" && !code.startsWith("ERR_");
}

/** An error as text: what is wrong, every violation, and what to do about it. */
export function describeError(error: Error): string {
	// A refused connection to a name with several addresses has a code but no message.
	if (!(error instanceof AuditError)) return `error: ${error.message || (error as NodeJS.ErrnoException).code}`;
	const lines = [`error: ${error.message} (${error.code})`];
	// The message of a single violation is that violation.
	if (error.violations.length > 1)
		lines.push(...error.violations.map(({ field, message }) => `  ${field}: ${message}`));
	const advice = ADVICE[error.code];
	if (advice) lines.push(advice);
	return lines.join("\n");
}

const ADVICE: Partial<Record<ErrorCode, string>> = {
	unauthenticated: "Give a key with --key or AUDIT_KEY; `auditlog key create` makes one.",
	permission_denied: "Use a key with another role: a writer writes, a reader reads, an operator does both.",
	unavailable: "Is the service running? `make run` starts one; --url or AUDIT_URL names another.",
	resource_exhausted: "The service is full at the moment: try again.",
};
