import { describe, expect, test } from "vitest";
import { QueryRequestSchema } from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { readParams } from "../../../src/rpc/rest-params.ts";

const read = (query: string) => readParams(QueryRequestSchema, new URLSearchParams(query));
/** One valid value for each kind of field. */
const EXAMPLES: Record<string, string> = {
	occurred_after: "2026-01-31T12:00:00Z",
	occurred_before: "2026-01-31T12:00:00Z",
	recorded_after: "2026-01-31T12:00:00Z",
	recorded_before: "2026-01-31T12:00:00Z",
	categories: "CATEGORY_AUTH",
	severities: "SEVERITY_INFO",
	outcomes: "OUTCOME_DENIED",
	actor_types: "ACTOR_TYPE_USER",
	page_size: "7",
	include_reads: "true",
	order: "ORDER_OLDEST_FIRST",
};

test("every field of a search is a parameter", () => {
	const query = QueryRequestSchema.fields.map(({ name }) => `${name}=${EXAMPLES[name] ?? "x"}`).join("&");
	const decoded = read(query);
	if (!decoded.ok) throw new Error(JSON.stringify(decoded.violations));
	for (const field of QueryRequestSchema.fields) {
		const value = (decoded.input as unknown as Record<string, unknown>)[field.localName];
		expect([field.name, value]).not.toEqual([field.name, undefined]);
	}
});

describe("parameters", () => {
	test("repeat for lists and may be numbers of enums", () => {
		expect(read("severities=SEVERITY_INFO&severities=7&actor_ids=a&actor_ids=a%2Cb")).toMatchObject({
			input: { severities: [2, 7], actorIds: ["a", "a,b"] },
		});
	});

	test("that are yes or no are true or false, and nothing else", () => {
		expect(read("include_reads=true")).toMatchObject({ input: { includeReads: true } });
		expect(read("include_reads=false")).toMatchObject({ input: { includeReads: false } });
		for (const text of ["", "1", "yes", "True"]) {
			expect(read(`include_reads=${text}`)).toMatchObject({ violations: [{ field: "include_reads" }] });
		}
	});

	test("that are unknown, given twice or of the wrong form are each named", () => {
		const decoded = read("tenant=a&page_size=1&page_size=2&order=up&occurred_after=2026-01-31T12:00:00+01:00");
		expect(decoded).toMatchObject({
			ok: false,
			violations: [
				{ field: "tenant", message: expect.stringMatching(/^is not a parameter; there are tenant_id, /) },
				{ field: "page_size", message: "must be given once" },
				{ field: "order" },
				// A plus sign in a URL is a space.
				{ field: "occurred_after" },
			],
		});
	});

	test("in two spellings are given twice", () => {
		expect(read("page_size=1&pageSize=1")).toMatchObject({ ok: false, violations: [{ field: "page_size" }] });
	});
});
