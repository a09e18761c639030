import { toJson } from "@bufbuild/protobuf";
import { microsOf, rfc3339 } from "../event/time.ts";
import { type Event, EventSchema } from "../gen/audit/v1/event_pb.ts";

/** An event as JSON with snake_case names and six-digit times, as the REST routes give it; `indent` as JSON.stringify's. */
export function eventJson(event: Event, indent = 0): string {
	const json = toJson(EventSchema, event, { useProtoFieldName: true }) as Record<string, unknown>;
	if (event.occurredAt) json.occurred_at = rfc3339(microsOf(event.occurredAt));
	if (event.recordedAt) json.recorded_at = rfc3339(microsOf(event.recordedAt));
	return JSON.stringify(json, undefined, indent);
}
