import { createSecretKey } from "node:crypto";
import type { AuditError } from "../../errors.ts";
import { admit } from "../../event/admit.ts";
import type { TenantId } from "../../event/event.ts";
import { microsOfDate } from "../../event/time.ts";
import type { Event } from "../../gen/audit/v1/event_pb.ts";
import { cloudTrailEvent, UnmappableRecord } from "./cloudtrail.ts";
import { parseExactJson } from "./exact-json.ts";
import type { ImportReport } from "./report.ts";
import type { Refusal, SourcedEvent } from "./send-events.ts";
import type { RecordText } from "./split-records.ts";

/** Turns records into events; reports those that cannot be and goes on. */
export async function* mapRecords(
	records: AsyncIterable<RecordText>,
	tenantId: TenantId,
	report: ImportReport,
): AsyncGenerator<SourcedEvent> {
	for await (const record of records) {
		report.read();
		const { place } = record;
		const mapped = "text" in record ? mapRecord(record.text, tenantId) : { refused: refusal(record.problem) };
		if ("refused" in mapped) report.rejected(place, mapped.refused);
		else yield { place, event: mapped.event };
	}
}

function mapRecord(text: string, tenantId: TenantId): { event: Event } | { refused: Refusal } {
	let event: Event;
	try {
		event = cloudTrailEvent(parseExactJson(text), tenantId);
	} catch (error) {
		if (error instanceof SyntaxError || error instanceof UnmappableRecord) return { refused: refusal(error.message) };
		// The stack overflows before anything else does.
		if (error instanceof RangeError) return { refused: refusal("is nested too deeply") };
		throw error;
	}
	// The service would say the same. Asked here, a bad record is named by its line whatever the door, and what the
	// binary encoding would quietly replace (lone surrogates) is found before it is encoded.
	const admitted = admit(event, {
		now: microsOfDate(new Date()),
		recordedBy: { door: "rpc", keyId: undefined },
		boundTenant: undefined,
		idSecret: createSecretKey(new Uint8Array(32)),
	});
	return admitted.ok ? { event } : { refused: { message: "is not a valid event", violations: admitted.violations } };
}

function refusal(message: string): Refusal {
	return { message, violations: [] satisfies AuditError["violations"] };
}
