import { AuditError, type ErrorCode } from "../errors.ts";
import { CommandError, UsageError } from "./command-line.ts";
import { databaseAdvice } from "./database-error.ts";
import { printable, printableLines } from "./output/printable.ts";
import { violationText } from "./violation-text.ts";

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
	if (!(error instanceof AuditError)) return `error: ${printableLines(otherText(error))}`;
	const lines = [`error: ${printable(error.message.trim())} (${error.code})`];
	// The message of a single violation is that violation.
	if (error.violations.length > 1) lines.push(`  ${violationText(error.violations, "\n  ")}`);
	const advice = adviceFor(error);
	if (advice) lines.push(advice);
	return lines.join("\n");
}

function otherText(error: Error): string {
	const { code, path, syscall } = error as NodeJS.ErrnoException;
	if (code === "ENOENT" && path !== undefined) return `${path}: there is no such file`;
	if (code === "EACCES" && path !== undefined)
		return `${path}: you may not ${syscall === "mkdir" ? "write" : "read"} it`;
	if (error instanceof UsageError || error instanceof CommandError) return error.message;
	// A refused connection to a name with several addresses has a code but no message.
	return databaseAdvice(error) ?? (error.message || String(code));
}

function adviceFor(error: AuditError): string | undefined {
	const special = BY_REASON[error.reason];
	if (special) return special;
	const trouble = `${error.message} ${causes(error).join(" ")}`;
	if (error.code === "unavailable" || error.code === "internal") {
		return CONNECTION.find(([pattern]) => pattern.test(trouble))?.[1] ?? BY_CODE[error.code];
	}
	return BY_CODE[error.code];
}

const BY_REASON: Record<string, string> = {
	NATS_UNAVAILABLE:
		"Is NATS running, and is the service? --nats-url or NATS_URL names another; without --via nats it goes by RPC.",
	NATS_PERMISSION:
		"Give a user who may publish here: in NATS_URL (nats://user:password@host:4222) or NATS_CREDS_FILE, with --nats-inbox-prefix.",
	NATS_TLS: "tls:// and NATS_CA_FILE ask for TLS; NATS_CA_FILE says who is believed, NATS_CERT_FILE who we are.",
	STREAM_FULL: "The service is behind: let it store what is there, or give the stream more room, and import again.",
	TENANT_NOT_FOUND: "`auditlog tenant list` shows the tenants there are; `auditlog tenant create <id>` makes one.",
	KEY_NOT_FOUND: "`auditlog key list` shows the keys there are.",
	UNIT_MASKED: "Leave out what asks for masked units, or use a key that sees them.",
	GRANT_NOT_PERMITTED: "Nobody gives more than he has: use an operator's key, or one that is good for more tenants.",
	TENANT_DISABLED: "Nothing is lost: `auditlog tenant enable <id>` opens its log again, which takes an operator.",
	INVALID_RESUME_TOKEN:
		"What was begun cannot be gone on with any more: delete FILE.part.json, and the command begins anew.",
	EVENT_NOT_FOUND: "Ids are looked up within one tenant: is --tenant right? What came by NATS is there a moment later.",
	OTHER_SECRET: "AUDIT_SECRET must be the one this database has been used with from the start.",
};

const BY_CODE: Partial<Record<ErrorCode, string>> = {
	unauthenticated: "Give a key with --key or AUDIT_KEY; `auditlog key create` makes one.",
	permission_denied:
		"Use a key with another role: a writer writes, a reader reads, a tenant admin manages keys, an operator does everything.",
	unavailable: "Is the service running? `make run` starts one; --url or AUDIT_URL names another.",
	resource_exhausted: "The service is full at the moment: try again.",
	deadline_exceeded: "It took too long: ask for less at once (--since, --limit), or try again.",
	already_exists: "An event with this id is stored with other content: events are never changed. Give another --id.",
};

/** What a connection says that reached something, but not the service, or by another protocol than it speaks. */
const CONNECTION: readonly (readonly [RegExp, string])[] = [
	[
		/wrong version number|WRONG_VERSION_NUMBER|packet length too long|EPROTO/,
		"The address answers, but not in TLS: give it as http:// instead of https://.",
	],
	[
		/CERT|certificate|SELF_SIGNED|ALTNAME/i,
		"The server's certificate is not trusted here: name its authority's file in NODE_EXTRA_CA_CERTS.",
	],
	[
		/Protocol error|error code|Parse Error|HPE_|ERR_HTTP2|ECONNRESET|socket hang up|session closed/i,
		"Something answers there, but it is not the service, or it wants https://. `auditlog` speaks to either of its ports, 8080 and 50051.",
	],
	[/ENOTFOUND|EAI_AGAIN/, "There is no such host: look at --url or AUDIT_URL."],
];

/** The codes and messages of what an error was caused by. */
function causes(error: Error): string[] {
	const { cause } = error;
	if (!(cause instanceof Error)) return [];
	return [`${(cause as NodeJS.ErrnoException).code ?? ""} ${cause.message}`, ...causes(cause)];
}
