import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { AuditError, type ErrorCode } from "../errors.ts";
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

/** The reason of the one error whose status over REST is not its code's. */
export const REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE";

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
	if (audit.violations.length > 0) {
		const fieldViolations = audit.violations.map(({ field, message }) =>
			create(BadRequest_FieldViolationSchema, { field: fit(field), description: fit(message) }),
		);
		connect.details.push({ desc: BadRequestSchema, value: { fieldViolations } });
	}
	if (audit.retryAfterMs !== undefined) {
		connect.details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(audit.retryAfterMs) } });
	}
	return connect;
}

/**
 * The last look at an error before Connect writes it, in place. Errors that Connect itself made get the shape of all
 * others: what a caller sent wrong is its fault and not an internal one, and every error has a reason.
 *
 * @param inTrailer details are to travel in a trailer, where only so much fits
 */
export function finishConnectError(error: ConnectError, { inTrailer }: { inTrailer: boolean }): void {
	if (error.details.length === 0) {
		const correction = CORRECTIONS.find(
			({ code, text }) => (code ?? error.code) === error.code && text.test(error.rawMessage),
		);
		if (correction) {
			const { code, message } = correction.as;
			Object.assign(error, { code: code ?? error.code, rawMessage: message ?? error.rawMessage });
		}
		addErrorInfo(error, correction?.as.reason ?? nameOfCode(error.code).toUpperCase());
	}
	if (inTrailer) shortenViolations(error);
}

interface Correction {
	/** Absent: whatever the code. */
	readonly code?: Code;
	readonly text: RegExp;
	readonly as: { readonly code?: Code; readonly message?: string; readonly reason: string };
}

const CORRECTIONS: readonly Correction[] = [
	{
		code: Code.Internal,
		text: /^parse binary/,
		as: { code: Code.InvalidArgument, message: "the request is not valid protobuf", reason: "MALFORMED_REQUEST" },
	},
	{
		code: Code.InvalidArgument,
		text: /^cannot decode|JSON/,
		as: { message: "the request is not valid JSON of its type", reason: "MALFORMED_REQUEST" },
	},
	{
		text: /^decompression failed/,
		as: { code: Code.InvalidArgument, message: "the request is not valid gzip", reason: "MALFORMED_REQUEST" },
	},
	{
		code: Code.ResourceExhausted,
		text: /readMaxBytes/,
		as: { message: TOO_LARGE, reason: REQUEST_TOO_LARGE },
	},
	{
		text: /^protocol error|^received compressed envelope/,
		as: { code: Code.InvalidArgument, reason: "MALFORMED_REQUEST" },
	},
	{ code: Code.InvalidArgument, text: /^timeout/, as: { reason: "MALFORMED_REQUEST" } },
	{ code: Code.Unimplemented, text: /^unknown compression/, as: { reason: "UNSUPPORTED_COMPRESSION" } },
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
