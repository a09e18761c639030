import type { JsonObject } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "../gen/audit/v1/event_pb.ts";
import { restJson } from "../rpc/rest-json.ts";
import { jsonText } from "./output/printable.ts";

/** An event with snake_case names and six-digit times, exactly as the REST routes give it. */
export function eventValue(event: Event): JsonObject {
	return restJson(EventSchema, event);
}

/** An event as JSON; `indent` as JSON.stringify's. */
export function eventJson(event: Event, indent = 0): string {
	return jsonText(eventValue(event), indent);
}
