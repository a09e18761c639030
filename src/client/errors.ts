import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { AuditError, type ErrorCode } from "../errors.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";

/**
 * Whatever a call threw, in the service's own words: code, reason, message, every violation with its path, and after how
 * many milliseconds a retry may help.
 */
export function toAuditError(error: unknown): AuditError {
	if (error instanceof AuditError) return error;
	const connect = ConnectError.from(error);
	const [info] = connect.findDetails(ErrorInfoSchema);
	const [retry] = connect.findDetails(RetryInfoSchema);
	const violations = connect
		.findDetails(BadRequestSchema)
		.flatMap(({ fieldViolations }) =>
			fieldViolations.map(({ field, description }) => ({ field, message: description })),
		);
	// The service explains every error of its own. One without was made on this side: the connection broke or was refused,
	// and what was asked may be asked again.
	const broken = !info && BROKEN.has(connect.code);
	return new AuditError(broken ? "unavailable" : (CODES.get(connect.code) ?? "internal"), connect.rawMessage, {
		reason: info?.reason ?? (Code[connect.code] ?? "Unknown").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase(),
		violations,
		...(retry?.retryDelay && { retryAfterMs: Math.round(durationMs(retry.retryDelay)) }),
		cause: error,
	});
}

const CODES = new Map<Code, ErrorCode>([
	[Code.InvalidArgument, "invalid_argument"],
	[Code.Unauthenticated, "unauthenticated"],
	[Code.PermissionDenied, "permission_denied"],
	[Code.NotFound, "not_found"],
	[Code.AlreadyExists, "already_exists"],
	[Code.FailedPrecondition, "failed_precondition"],
	[Code.ResourceExhausted, "resource_exhausted"],
	[Code.DeadlineExceeded, "deadline_exceeded"],
	[Code.Unavailable, "unavailable"],
]);

const BROKEN: ReadonlySet<Code> = new Set([Code.Aborted, Code.Canceled, Code.Internal, Code.Unavailable]);
