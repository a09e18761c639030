import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { AuditError, type ErrorCode, invalidArgument, type Violation } from "../errors.ts";
import {
	BadRequest_FieldViolationSchema,
	BadRequestSchema,
	ErrorInfoSchema,
	RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb.ts";
import { RPC_LIMITS } from "./limits.ts";

/** The only place that knows Connect's codes. */
const CODES = {
	invalid_argument: Code.InvalidArgument,
	unauthenticated: Code.Unauthenticated,
	permission_denied: Code.PermissionDenied,
	not_found: Code.NotFound,
	already_exists: Code.AlreadyExists,
	failed_precondition: Code.FailedPrecondition,
	resource_exhausted: Code.ResourceExhausted,
	deadline_exceeded: Code.DeadlineExceeded,
	unavailable: Code.Unavailable,
	internal: Code.Internal,
} as const satisfies Record<ErrorCode, Code>;

const DOMAIN = "audit.v1";

/** Any error as one meant for the caller. What is not an AuditError is a fault of ours: the caller learns nothing of it. */
export function asAuditError(error: unknown): AuditError {
	if (error instanceof AuditError) return error;
	return new AuditError("internal", "internal error", { reason: "INTERNAL", cause: error });
}

export function deadlineExceeded(): AuditError {
	return new AuditError("deadline_exceeded", "the call took too long; whether it had an effect is not known", {
		reason: "DEADLINE_EXCEEDED",
	});
}

/** The error for what cannot be read as the request it should be, at every door. */
export function malformedRequest(violations: Violation[]): AuditError {
	return invalidArgument(violations, MALFORMED_REQUEST);
}

const MALFORMED_REQUEST = "MALFORMED_REQUEST";

/** The reasons of the errors whose status over REST is not their code's. */
export const REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE";
export const UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE";

export function requestTooLarge(): AuditError {
	return new AuditError("resource_exhausted", TOO_LARGE, { reason: REQUEST_TOO_LARGE });
}

const TOO_LARGE = `the request is larger than ${RPC_LIMITS.requestBytes} bytes`;

export function overloaded(): AuditError {
	return new AuditError("resource_exhausted", "too many requests are being handled; try again", {
		reason: "IN_FLIGHT_BYTES",
		retryAfterMs: 500,
	});
}

export function goingAway(): AuditError {
	return new AuditError("unavailable", "the service is going away; go on with another one", {
		reason: "GOING_AWAY",
		retryAfterMs: 0,
	});
}

/** Ends the handling of a call whose caller is gone: nobody gets to see it. */
export function callerLeft(): ConnectError {
	return new ConnectError("the caller left", Code.Canceled);
}

/** Any error as Connect's, with google.rpc details: ErrorInfo always, BadRequest and RetryInfo where there is something to say. */
export function asConnectError(error: unknown): ConnectError {
	if (error instanceof ConnectError && error.code === Code.Canceled) return error;
	if (error instanceof Error && error.name === "AbortError") return callerLeft();
	const audit = asAuditError(error);
	const connect = new ConnectError(fit(audit.message), CODES[audit.code], undefined, [], audit.cause);
	addErrorInfo(connect, audit.reason);
	if (audit.violations.length > 0) addViolations(connect, audit.violations);
	if (audit.retryAfterMs !== undefined) {
		connect.details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(audit.retryAfterMs) } });
	}
	return connect;
}

/**
 * The last look at an error before Connect writes it, in place. Errors that Connect itself made get the shape of all
 * others: what a caller sent wrong is its fault and not an internal one, every error has a reason and says where, and none
 * repeats a value.
 *
 * @param inTrailer details are to travel in a trailer, where only so much fits
 * @param whereMalformed finds where a request that is no protobuf message stops being one
 */
export function finishConnectError(
	error: ConnectError,
	{ inTrailer, whereMalformed }: { inTrailer: boolean; whereMalformed: () => Violation },
): void {
	if (error.details.length === 0) addErrorInfo(error, correct(error, whereMalformed));
	if (inTrailer) shortenViolations(error);
}

/** @returns the error's reason */
function correct(error: ConnectError, whereMalformed: () => Violation): string {
	const text = error.rawMessage;
	const violation = text.startsWith("parse binary") ? whereMalformed() : MALFORMED.find((each) => each.text.test(text));
	if (violation) {
		const [field, message] = [fit(violation.field || "request"), fit(violation.message)];
		Object.assign(error, { code: Code.InvalidArgument, rawMessage: `${field}: ${message}` });
		addViolations(error, [{ field, message }]);
		return MALFORMED_REQUEST;
	}
	const other = OTHERS.find((each) => each.text.test(text));
	if (other) Object.assign(error, { rawMessage: other.message });
	return other?.reason ?? nameOfCode(error.code).toUpperCase();
}

/** What Connect says of requests that are none, and how we say it. */
const MALFORMED: readonly (Violation & { text: RegExp })[] = [
	{ text: /^cannot decode/, field: "", message: "is not valid JSON of its type" },
	{ text: /^decompression failed/, field: "", message: "is not valid gzip" },
	{ text: /invalid connect timeout/, field: "connect-timeout-ms", message: "must be 1 to 10 digits: milliseconds" },
	{ text: /invalid grpc timeout/, field: "grpc-timeout", message: "must be 1 to 8 digits and one of H M S m u n" },
	{ text: /^received compressed envelope/, field: "", message: "is marked as compressed, and no compression is named" },
	{ text: /missing input message/, field: "", message: "must have one message, and has none" },
	{ text: /extra input message/, field: "", message: "must have one message, and has more" },
	{ text: /^protocol error/, field: "", message: "is cut off, or longer than it says" },
];

const OTHERS: readonly { text: RegExp; reason: string; message: string }[] = [
	{ text: /readMaxBytes/, reason: REQUEST_TOO_LARGE, message: TOO_LARGE },
	{ text: /^unknown compression/, reason: "UNSUPPORTED_COMPRESSION", message: "the only compression spoken is gzip" },
];

/** What the log says of an error that ended a call. */
export function failureOf(error: ConnectError): { code: string; reason: string; cause?: unknown } {
	const [info] = error.findDetails(ErrorInfoSchema);
	const failure = { code: nameOfCode(error.code), reason: info?.reason ?? "" };
	return error.cause === undefined ? failure : { ...failure, cause: error.cause };
}

/** `INVALID_ARGUMENT` is `InvalidArgument` in Connect, and `invalid_argument` here. */
function nameOfCode(code: Code): string {
	return (Code[code] ?? "Unknown").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
}

function addErrorInfo(error: ConnectError, reason: string): void {
	error.details.push({ desc: ErrorInfoSchema, value: { reason, domain: DOMAIN } });
}

function addViolations(error: ConnectError, violations: readonly Violation[]): void {
	const fieldViolations = violations.map(({ field, message }) =>
		create(BadRequest_FieldViolationSchema, { field: fit(field), description: fit(message) }),
	);
	error.details.push({ desc: BadRequestSchema, value: { fieldViolations } });
}

/** Texts travel in headers, which hold well-formed text of moderate length only. */
function fit(text: string): string {
	return text.slice(0, 500).toWellFormed();
}

/** Keeps the violations that fit into a trailer and counts the rest. */
function shortenViolations(error: ConnectError): void {
	const [badRequest] = error.findDetails(BadRequestSchema);
	if (!badRequest) return;
	const { fieldViolations } = badRequest;
	let left: number = RPC_LIMITS.trailerDetailBytes;
	const tooMany = fieldViolations.findIndex(({ field, description }) => {
		left -= Buffer.byteLength(field) + Buffer.byteLength(description) + 8;
		return left < 0;
	});
	if (tooMany < 0) return;
	const rest = create(BadRequest_FieldViolationSchema, { description: `and ${fieldViolations.length - tooMany} more` });
	const value = { fieldViolations: [...fieldViolations.slice(0, tooMany), rest] };
	error.details = error.details.map((detail) =>
		"desc" in detail && detail.desc.typeName === BadRequestSchema.typeName ? { desc: BadRequestSchema, value } : detail,
	);
}
