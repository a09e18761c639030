import type { Telemetry } from "../telemetry.ts";
import { endTrace } from "../trace.ts";
import type { Call } from "./call.ts";
import { REQUEST_TOO_LARGE } from "./errors.ts";

/** Counts a call that is over, and ends its span. */
export function measureEnd(call: Call, failure: Call["failure"], telemetry: Telemetry): void {
	const seconds = (performance.now() - call.startedAt) / 1000;
	const name = call.name ?? "none";
	telemetry.observe("audit_call_seconds", { call: name, code: failure?.code ?? "ok" }, seconds);
	if (failure && WRITES.has(name) && isRefusal(failure)) {
		telemetry.count("audit_events_rejected_total", { door: "rpc", reason: failure.reason }, call.events ?? 1);
	}
	const attributes = { "audit.request_id": call.requestId, "audit.batch_ids": [...call.batchIds].map(String) };
	endTrace(call.trace, { name, attributes, ...(failure && { failure: failure.code }) });
}

const WRITES: ReadonlySet<string> = new Set(["WriteEvent", "BatchWrite", "REST writeEvent", "REST batchWrite"]);

/** Whether the same events would be refused again. */
function isRefusal({ code, reason }: NonNullable<Call["failure"]>): boolean {
	return REFUSALS.has(code) || reason === REQUEST_TOO_LARGE || reason === "STORAGE_REFUSED";
}

const REFUSALS: ReadonlySet<string> = new Set([
	"invalid_argument",
	"permission_denied",
	"not_found",
	"already_exists",
	"failed_precondition",
]);
