import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
	BatchWriteResponseSchema,
	QueryResponseSchema,
	WriteEventResponseSchema,
} from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { type Category, EventSchema } from "../../../src/gen/audit/v1/event_pb.ts";
import { restJson } from "../../../src/rpc/rest-json.ts";

test.each([
	[0, "2026-01-31T12:00:00.000000Z"],
	[1_000, "2026-01-31T12:00:00.000001Z"],
	[120_000_000, "2026-01-31T12:00:00.120000Z"],
	[123_456_000, "2026-01-31T12:00:00.123456Z"],
	[999_999_999, "2026-01-31T12:00:00.999999Z"],
])("a time of %i nanoseconds has six digits: %s", (nanos, text) => {
	const occurredAt = { seconds: 1769860800n, nanos };
	expect(restJson(EventSchema, create(EventSchema, { occurredAt }))).toEqual({ occurred_at: text });
});

test("an event has what it holds and no more, under the schema's names; its metadata keeps its own", () => {
	const event = create(EventSchema, {
		tenantId: "acme",
		category: 99 as Category,
		relatedResources: [{ displayName: "X" }],
		metadata: { occurredAt: "2026", nested: { camelCase: null } },
		changes: { oldValue: { someKey: 1 }, changedFields: [] },
	});
	expect(restJson(EventSchema, event)).toEqual({
		tenant_id: "acme",
		category: 99,
		related_resources: [{ display_name: "X" }],
		metadata: { occurredAt: "2026", nested: { camelCase: null } },
		changes: { old_value: { someKey: 1 } },
	});
});

test("answers around events say what is empty", () => {
	expect(restJson(QueryResponseSchema, create(QueryResponseSchema))).toEqual({ events: [], next_page_token: "" });
	expect(restJson(WriteEventResponseSchema, create(WriteEventResponseSchema, { eventId: "x" }))).toEqual({
		event_id: "x",
		duplicate: false,
	});
	const error = { case: "error" as const, value: { code: "not_found" } };
	const batch = create(BatchWriteResponseSchema, { results: [{ result: error }] });
	expect(restJson(BatchWriteResponseSchema, batch)).toEqual({
		results: [{ error: { code: "not_found", reason: "", message: "", violations: [] } }],
	});
});
