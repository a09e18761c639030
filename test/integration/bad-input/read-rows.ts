import { create, fromJson, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { NOTHING_MASKED } from "../../../src/auth/principal.ts";
import { deriveKeys } from "../../../src/auth/secret.ts";
import type { EventId, Micros, TenantId } from "../../../src/event/event.ts";
import { QueryRequestSchema } from "../../../src/gen/audit/v1/audit_service_pb.ts";
import { parseSearch } from "../../../src/query/filter.ts";
import { issuePageToken } from "../../../src/query/page-token.ts";
import { testSecret } from "../../support/services.ts";
import { sendConnect, sendGrpc, sendRest } from "./doors.ts";
import type { Expected, RequestRow } from "./request-rows.ts";
import type { World } from "./world.ts";

/** Rows 89–99: questions. */

type Ask = JsonObject | ((world: World) => JsonObject);

/** A search at each door; in protobuf, too, if that can say it. */
function search(ask: Ask, { rest = true } = {}): RequestRow["doors"] {
	const of = (world: World): JsonObject => ({ tenant_id: "acme", ...(typeof ask === "function" ? ask(world) : ask) });
	const params = (json: JsonObject) =>
		new URLSearchParams(
			Object.entries(json).flatMap(([name, value]) =>
				[value].flat().map((each) => [name, `${each as string | number}`]),
			),
		);
	return {
		"Connect, JSON": (world) =>
			sendConnect(world.httpUrl, "Query", "application/json", { body: JSON.stringify(of(world)), key: world.key }),
		"gRPC, JSON": (world) =>
			sendGrpc(world.grpc, "Query", "application/grpc+json", { body: JSON.stringify(of(world)), key: world.key }),
		...(rest && {
			REST: (world: World) =>
				sendRest(world.httpUrl, "GET", `/v1/audit/events?${params(of(world))}`, { key: world.key }),
		}),
	};
}

function inProtobuf(ask: Ask): RequestRow["doors"] {
	return {
		"gRPC, protobuf": (world) => {
			const json = { tenant_id: "acme", ...(typeof ask === "function" ? ask(world) : ask) };
			const body = toBinary(QueryRequestSchema, fromJson(QueryRequestSchema, json));
			return sendGrpc(world.grpc, "Query", "application/grpc", { body, key: world.key });
		},
	};
}

function getEvent(ask: { id: string; tenant_id?: string; occurred_at?: string }): RequestRow["doors"] {
	const body = JSON.stringify({ tenant_id: "acme", ...ask });
	const { id, ...params } = { tenant_id: "acme", ...ask };
	return {
		Connect: ({ httpUrl, key }) => sendConnect(httpUrl, "GetEvent", "application/json", { body, key }),
		gRPC: ({ grpc, key }) => sendGrpc(grpc, "GetEvent", "application/grpc+json", { body, key }),
		REST: ({ httpUrl, key }) =>
			sendRest(httpUrl, "GET", `/v1/audit/events/${encodeURIComponent(id)}?${new URLSearchParams(params)}`, { key }),
	};
}

const invalid = (...fields: string[]): Expected => ({ code: "invalid_argument", reason: "INVALID_QUERY", fields });
const malformed = (...fields: string[]): Expected => ({
	code: "invalid_argument",
	reason: "MALFORMED_REQUEST",
	fields,
});
const BAD_TOKEN: Expected = {
	code: "invalid_argument",
	reason: "INVALID_PAGE_TOKEN",
	fields: ["page_token"],
	says: /^page_token: is not the next_page_token of a search with this tenant, these filters and this order, or older than 30 days$/,
};

/** A token as the service would have made it for the search for all of `acme`'s events, but for these. */
function token({ secret = testSecret(), tenant = "acme", filters = {}, ageMs = 0 } = {}): string {
	const found = parseSearch(create(QueryRequestSchema, filters), tenant as TenantId, NOTHING_MASKED);
	const cursor = {
		occurredAt: 1_795_000_000_000_000n as Micros,
		id: "01931b8f-0000-7000-8000-000000000001" as EventId,
	};
	return issuePageToken(deriveKeys(secret).pageTokens, found, cursor, Date.now() - ageMs);
}

function flipped(text: string): string {
	const bytes = Buffer.from(text, "base64url");
	bytes[40] = (bytes[40] ?? 0) ^ 1;
	return bytes.toString("base64url");
}

function otherVersion(text: string): string {
	const bytes = Buffer.from(text, "base64url");
	bytes[0] = 9;
	return bytes.toString("base64url");
}

const DAY_MS = 86_400_000;
const good = token();

export const READS: readonly RequestRow[] = [
	{
		row: 89,
		what: "a page of -1 events",
		doors: { ...search({ page_size: -1 }), ...inProtobuf({ page_size: -1 }) },
		expected: { ...invalid("page_size"), says: /must not be negative/ },
	},
	{ row: 89, what: "a page of 0 events", doors: search({ page_size: 0 }), expected: { code: "ok" } },
	{ row: 89, what: "a page of 1,000,000 events", doors: search({ page_size: 1_000_000 }), expected: { code: "ok" } },
	{
		row: 89,
		what: "a page of 2^31 events",
		doors: search({ page_size: 2 ** 31 }),
		expected: { ...malformed("page_size"), says: /integer from/ },
	},
	{
		row: 89,
		what: "a page of s3cret events",
		doors: search({ page_size: "s3cret" }),
		expected: { ...malformed("page_size"), says: /integer from/ },
	},
	{ row: 90, what: "a good token", doors: search({ page_token: good }), expected: { code: "ok" } },
	...Object.entries({
		garbage: "s3cret",
		"cut off": good.slice(0, -4),
		"with a bit flipped": flipped(good),
		"of another version": otherVersion(good),
		padded: `${good}==`,
		"of another service's secret": token({ secret: "x".repeat(64) }),
		"of 100,000 characters": "A".repeat(14_000),
	}).map(
		([what, page_token]): RequestRow => ({
			row: 90,
			what: `a token ${what}`,
			doors: { ...search({ page_token }), ...inProtobuf({ page_token }) },
			expected: BAD_TOKEN,
		}),
	),
	{
		row: 91,
		what: "another tenant's token",
		doors: search({ page_token: token({ tenant: "globex" }) }),
		expected: BAD_TOKEN,
	},
	{
		row: 92,
		what: "a token of other filters",
		doors: search({ page_token: token({ filters: { actorIds: ["jane"] } }) }),
		expected: BAD_TOKEN,
	},
	{
		row: 92,
		what: "a token with more filters",
		doors: search({ page_token: good, sources: ["api"] }),
		expected: BAD_TOKEN,
	},
	{
		row: 92,
		what: "a token of the other order",
		doors: search({ page_token: good, order: "ORDER_OLDEST_FIRST" }),
		expected: BAD_TOKEN,
	},
	{
		row: 93,
		what: "a token of 31 days ago",
		doors: search({ page_token: token({ ageMs: 31 * DAY_MS }) }),
		expected: BAD_TOKEN,
	},
	{
		row: 94,
		what: "an end before the beginning",
		doors: search({ occurred_after: "2026-01-02T00:00:00Z", occurred_before: "2026-01-01T00:00:00Z" }),
		expected: { ...invalid("occurred_before"), says: /not be earlier than occurred_after/ },
	},
	{
		row: 94,
		what: "times that are none",
		doors: search({ occurred_after: "infinity", occurred_before: "s3cret" }),
		expected: { ...malformed("occurred_after", "occurred_before"), says: /RFC 3339/ },
	},
	{
		row: 94,
		what: "a range of nine thousand years",
		doors: search({ occurred_after: "0001-01-01T00:00:00Z", occurred_before: "9999-12-31T23:59:59Z" }),
		expected: { code: "ok" },
	},
	{
		row: 95,
		what: "lists of 101 and of 300",
		doors: search({
			actor_ids: Array.from({ length: 101 }, (_, i) => `a${i}`),
			sources: Array.from({ length: 300 }, (_, i) => `s${i}`),
		}),
		expected: { ...invalid("actor_ids", "sources"), says: /more than 100 items/ },
	},
	{
		row: 95,
		what: "a list of 10,000",
		doors: search({ actor_ids: Array.from({ length: 10_000 }, (_, i) => `a${i}`) }, { rest: false }),
		expected: invalid("actor_ids"),
	},
	...["%", "jan_", "\\", ".*", "' OR '1'='1", "jane'; DROP TABLE audit.events; --", "j[a]ne", "${1}"].map(
		(id): RequestRow => ({
			row: 96,
			what: `the filter ${id}, which is a text like any other`,
			doors: { ...search({ actor_ids: [id], resource_id: id, sources: [id] }), ...inProtobuf({ actor_ids: [id] }) },
			expected: { code: "ok", json: { events: [] } },
		}),
	),
	...["%", "jan_", "\\", "' OR '1'='1", "jane'; DROP TABLE audit.events; --", '"x"]'].map(
		(id): RequestRow => ({
			row: 96,
			what: `what touches ${id}, an id like any other`,
			doors: { ...search({ touching_ids: [id] }), ...inProtobuf({ actor_or_on_behalf_of_ids: [id] }) },
			expected: { code: "ok", json: { events: [] } },
		}),
	),
	...["s3cret' | 'x", "s3cret & !x", "s3cret:*", "s3cret <-> bad", "s3cret\\", "(s3cret", "'s3cret", "s3cret%_"].map(
		(text): RequestRow => ({
			row: 96,
			what: `the words ${text}, in which signs mean nothing`,
			doors: { ...search({ text }), ...inProtobuf({ text }) },
			expected: { code: "ok", json: { events: [] } },
		}),
	),
	...Object.entries({ "no word": "!?* \u0301", "17 words": "s3cret ".repeat(17), "257 bytes": "x".repeat(257) }).map(
		([what, text]): RequestRow => ({
			row: 96,
			what: `words: ${what}`,
			doors: { ...search({ text }), ...inProtobuf({ text }) },
			expected: invalid("text"),
		}),
	),
	{
		row: 95,
		what: "lists that are too long together",
		doors: search(
			Object.fromEntries(
				["actor_ids", "not_actor_ids", "touching_ids", "sources"].map((name) => [
					name,
					Array.from({ length: 100 }, (_, i) => `${'"'.repeat(250)}${i}`),
				]),
			),
			{ rest: false },
		),
		expected: { ...invalid("actor_ids"), says: /must be shorter/ },
	},
	{
		row: 96,
		what: "the prefix bad_input*, in which _ is a _",
		doors: search({ actions: ["bad_input*"] }),
		expected: { code: "ok", json: { events: [] } },
	},
	...["bad%*", "*.input", "b*d", "bad.input*x"].map(
		(action): RequestRow => ({
			row: 96,
			what: `the action ${action}`,
			doors: search({ actions: ["x", action] }),
			expected: { ...invalid("actions[1]"), says: /followed by \*/ },
		}),
	),
	{
		row: 97,
		what: "an unknown order by name",
		doors: search({ order: "S3CRET" }),
		expected: { ...malformed("order"), says: /one of ORDER_UNSPECIFIED, ORDER_NEWEST_FIRST, ORDER_OLDEST_FIRST/ },
	},
	{
		row: 97,
		what: "an unknown order by number",
		doors: search({ order: 9 }),
		expected: { ...invalid("order"), says: /ORDER_NEWEST_FIRST or ORDER_OLDEST_FIRST/ },
	},
	{
		row: 97,
		what: "filters that do not exist",
		doors: search({ order_by: "s3cret", field_mask: "a,b" }),
		expected: malformed("order_by", "field_mask"),
	},
	{
		row: 97,
		what: "unknown words in lists",
		doors: search({ severities: ["SEVERITY_INFO", "HIGH"], categories: ["AUTH"] }),
		expected: { ...malformed("severities[1]", "categories[0]"), says: /one of SEVERITY_UNSPECIFIED, / },
	},
	{
		row: 99,
		what: "an event that nobody has",
		doors: getEvent({ id: "01931b8f-0000-7000-8000-00000000000f" }),
		expected: { code: "not_found", reason: "EVENT_NOT_FOUND", fields: [] },
	},
	{
		row: 99,
		what: "an event of a tenant that nobody has",
		doors: getEvent({ id: "01931b8f-0000-7000-8000-00000000000f", tenant_id: "s3cret" }),
		expected: { code: "not_found", reason: "EVENT_NOT_FOUND", fields: [] },
	},
	...["s3cret", "' OR 1=1 --", "00000000"].map(
		(id): RequestRow => ({
			row: 99,
			what: `an event by the id ${id}`,
			doors: getEvent({ id }),
			expected: { ...invalid("id"), says: /36-character form/ },
		}),
	),
	{
		row: 99,
		what: "an event at a time that is none",
		doors: getEvent({ id: "01931b8f-0000-7000-8000-00000000000f", occurred_at: "now" }),
		expected: malformed("occurred_at"),
	},
];
