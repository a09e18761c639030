import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTrail } from "../support/check-trail.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { testSecret } from "../support/services.ts";

let service: RpcService;
let key: string;

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

const login = { action: "user.login", actor: { id: "jane", type: "ACTOR_TYPE_USER" } };
/** Yesterday, at a quarter of a second: times that are too long ago or too far ahead are refused. */
const YESTERDAY = new Date(Math.floor(Date.now() / 1000) * 1000 - 86_400_000 + 250);
const YESTERDAY_TEXT = YESTERDAY.toISOString().replace("Z", "000Z");
const SIX_DIGITS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

describe("writing and reading", () => {
	test("an event written comes back in snake_case, with six fractional digits, its metadata untouched", async () => {
		const metadata = { camelKey: 1, snake_key: { "Key with spaces": null }, list: [1.5, "x", false] };
		const event = {
			...login,
			tenant_id: "acme",
			occurred_at: anHourAhead(YESTERDAY),
			category: "CATEGORY_AUTH",
			severity: "SEVERITY_SECURITY",
			primaryResource: { type: "user", id: "jane", displayName: "Jane" },
			metadata,
		};
		const written = await send("POST", "/v1/audit/events", event);
		expect(written.status).toBe(200);
		expect(written.json).toEqual({
			event_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
			occurred_at: YESTERDAY_TEXT,
			recorded_at: expect.stringMatching(SIX_DIGITS),
			duplicate: false,
			receipt: { batch_id: expect.stringMatching(/^\d+$/), leaf_hash: expect.any(String) },
		});

		const got = await send("GET", `/v1/audit/events/${written.json["event_id"] as string}?tenant_id=acme`);
		expect(got.status).toBe(200);
		expect(got.json).toMatchObject({
			id: written.json["event_id"],
			tenant_id: "acme",
			action: "user.login",
			occurred_at: YESTERDAY_TEXT,
			recorded_at: expect.stringMatching(SIX_DIGITS),
			outcome: "OUTCOME_SUCCESS",
			severity: "SEVERITY_SECURITY",
			primary_resource: { type: "user", id: "jane", display_name: "Jane" },
			metadata,
			integrity: { state: "INTEGRITY_STATE_STORED" },
		});
		const found = await send("GET", "/v1/audit/events?tenant_id=acme&actions=user.login");
		expect(found.json).toEqual({ events: [got.json], next_page_token: "" });
	});

	test("whole seconds have six digits too", async () => {
		await send("POST", "/v1/audit/events", { ...login, tenant_id: "whole", occurred_at: wholeSecond(YESTERDAY) });
		const { json } = await send("GET", "/v1/audit/events?tenant_id=whole&actions=user.login");
		expect(eventsOf(json)[0]?.["occurred_at"]).toBe(wholeSecond(YESTERDAY).replace("Z", ".000000Z"));
	});

	test("the search of the README finds what it asks for and nothing else", async () => {
		const events = [
			{ ...login, tenant_id: "XYZ", severity: "SEVERITY_SECURITY", category: "CATEGORY_AUTH" },
			{ ...login, tenant_id: "XYZ", severity: "SEVERITY_INFO", category: "CATEGORY_AUTH" },
			{ ...login, tenant_id: "XYZ", severity: "SEVERITY_SECURITY", category: "CATEGORY_DATA" },
			{ ...login, tenant_id: "ABC", severity: "SEVERITY_SECURITY", category: "CATEGORY_AUTH" },
		];
		const { json } = await send("POST", "/v1/audit/events:batch", { events });
		const ids = (json["results"] as { written: { event_id: string } }[]).map(({ written }) => written.event_id);
		const found = await send(
			"GET",
			"/v1/audit/events?tenant_id=XYZ&severities=SEVERITY_SECURITY&categories=CATEGORY_AUTH&page_size=50",
		);
		expect(eventsOf(found.json).map(({ id }) => id)).toEqual([ids[0]]);
		expect(found.json["next_page_token"]).toBe("");
	});

	test("a batch answers for each event in order; the mode may be atomic", async () => {
		const events = [{ ...login, tenant_id: "batch" }, { tenant_id: "batch" }];
		const partial = await send("POST", "/v1/audit/events:batch", { events });
		expect(partial.json["results"]).toEqual([
			{ written: expect.objectContaining({ duplicate: false }) },
			{
				error: {
					code: "invalid_argument",
					reason: "INVALID_EVENT",
					message: "events[1].action: is required (and 1 more)",
					violations: [
						{ field: "events[1].action", message: "is required" },
						{ field: "events[1].actor", message: "is required" },
					],
				},
			},
		]);
		const atomic = await send("POST", "/v1/audit/events:batch", { events, mode: "BATCH_WRITE_MODE_ATOMIC" });
		expect(atomic.status).toBe(400);
		expect(atomic.error.violations.map(({ field }) => field)).toEqual(["events[1].action", "events[1].actor"]);
	});

	test("parameters repeat for lists, take enum numbers, and page through everything once", async () => {
		const events = Array.from({ length: 5 }, (_, i) => ({ ...login, tenant_id: "pages", action: `page.${i % 2}` }));
		await send("POST", "/v1/audit/events:batch", { events });
		const seen: unknown[] = [];
		let token = "";
		do {
			const query = `tenant_id=pages&actions=page.0&actions=page.1&severities=2&page_size=2&page_token=${token}`;
			const { json } = await send("GET", `/v1/audit/events?${query}`);
			seen.push(...eventsOf(json).map(({ id }) => id));
			token = json["next_page_token"] as string;
		} while (token !== "");
		expect(new Set(seen).size).toBe(5);
		expect(seen).toHaveLength(5);
	});

	test("answers are compressed for those who take it, requests may be", async () => {
		const body = gzipSync(JSON.stringify({ ...login, tenant_id: "zip", description: "x".repeat(4000) }));
		const headers = { authorization: `Bearer ${key}`, "content-type": "application/json", "content-encoding": "gzip" };
		const written = await fetch(`${service.httpUrl}/v1/audit/events`, { method: "POST", body, headers });
		expect(written.status).toBe(200);
		const found = await fetch(`${service.httpUrl}/v1/audit/events?tenant_id=zip`, { headers });
		expect(found.headers.get("content-encoding")).toBe("gzip");
		expect(eventsOf((await found.json()) as Record<string, unknown>)).toHaveLength(2);
	});
});

describe("errors", () => {
	test.each([
		["GET", "/v1/audit/events?tenant_id=acme&colour=red", undefined, ["colour"]],
		["GET", "/v1/audit/events?tenant_id=acme&page_size=1&page_size=2", undefined, ["page_size"]],
		[
			"GET",
			"/v1/audit/events?tenant_id=acme&severities=SECURITY&page_size=many",
			undefined,
			["severities[0]", "page_size"],
		],
		["GET", "/v1/audit/events?tenant_id=acme&occurred_after=yesterday", undefined, ["occurred_after"]],
		["GET", "/v1/audit/events?tenant_id=acme&page_size=-1", undefined, ["page_size"]],
		["GET", "/v1/audit/events?tenant_id=acme&page_token=forged", undefined, ["page_token"]],
		["GET", "/v1/audit/events", undefined, ["tenant_id"]],
		["GET", "/v1/audit/events/not-a-uuid?tenant_id=acme", undefined, ["id"]],
		["GET", "/v1/audit/events/%zz?tenant_id=acme", undefined, ["id"]],
		["POST", "/v1/audit/events?tenant_id=acme", "{}", ["tenant_id"]],
		["POST", "/v1/audit/events", "{", ["body"]],
		["POST", "/v1/audit/events", "[]", ["body"]],
		["POST", "/v1/audit/events", '{"event":{}}', ["event"]],
		["POST", "/v1/audit/events", '{"tenant_id":"acme","actor":{}}', ["action", "actor.id"]],
		["POST", "/v1/audit/events", '{"actor":{"id":"a","id":"b"}}', ["actor.id"]],
		[
			"POST",
			"/v1/audit/events",
			'{"primaryResource":{"kind":1},"severity":"HIGH"}',
			["primary_resource.kind", "severity"],
		],
		[
			"POST",
			"/v1/audit/events:batch",
			'{"events":[{"actor":1},{"occurredAt":"2026-02-31T00:00:00Z"}]}',
			["events[0].actor", "events[1].occurred_at"],
		],
		["POST", "/v1/audit/events:batch", '{"events":[]}', ["events"]],
	])("%s %s %s names %j", async (method, path, body, fields) => {
		const { status, error, requestId } = await send(method, path, body);
		expect(status).toBe(400);
		expect(error).toMatchObject({
			code: "invalid_argument",
			reason: expect.stringMatching(/^[A-Z_]+$/),
			request_id: requestId,
		});
		expect(error.violations.map(({ field }) => field)).toEqual(fields);
		for (const { message } of error.violations) expect(message).toMatch(/./);
	});

	test("404 for an event that does not exist, 409 for an id with other content, 413 for a body beyond 4 MiB", async () => {
		const id = "01931b8f-0000-7000-8000-000000000001";
		const event = { ...login, id, tenant_id: "conflict", occurred_at: YESTERDAY.toISOString() };
		expect((await send("POST", "/v1/audit/events", event)).status).toBe(200);
		expect((await send("POST", "/v1/audit/events", event)).json["duplicate"]).toBe(true);
		const other = await send("POST", "/v1/audit/events", { ...event, action: "user.logout" });
		expect([other.status, other.error.code]).toEqual([409, "already_exists"]);
		const missing = await send("GET", "/v1/audit/events/01931b8f-0000-7000-8000-00000000000f?tenant_id=conflict");
		expect([missing.status, missing.error.code]).toEqual([404, "not_found"]);
		const large = await send("POST", "/v1/audit/events", " ".repeat(4 * 1024 * 1024 + 1));
		expect([large.status, large.error.reason]).toEqual([413, "REQUEST_TOO_LARGE"]);
		expect((await send("POST", "/v1/audit/events", " ".repeat(4 * 1024 * 1024))).status).toBe(400);
	});

	test("gzip that is none is named as such, whatever the case of its name", async () => {
		for (const encoding of ["gzip", "GZIP"]) {
			const response = await fetch(`${service.httpUrl}/v1/audit/events`, {
				method: "POST",
				headers: { authorization: `Bearer ${key}`, "content-type": "application/json", "content-encoding": encoding },
				body: "not gzip",
			});
			const { error } = (await response.json()) as { error: Answer["error"] };
			expect([response.status, error]).toEqual([
				400,
				expect.objectContaining({
					reason: "MALFORMED_REQUEST",
					message: "body: is not valid gzip",
					violations: [{ field: "body", message: "is not valid gzip" }],
				}),
			]);
		}
	});

	test("names of parameters come back cut and quoted", async () => {
		const name = `<b>${"x".repeat(1000)}`;
		for (const method of ["GET", "POST"]) {
			const { error } = await send(method, `/v1/audit/events?tenant_id=acme&${encodeURIComponent(name)}=1`);
			expect(error.violations.at(-1)?.field).toBe(JSON.stringify(name.slice(0, 64)));
		}
	});

	test("405 names the methods, 404 the lack of a route", async () => {
		const put = await fetch(`${service.httpUrl}/v1/audit/events`, { method: "PUT" });
		expect([put.status, put.headers.get("allow")]).toEqual([405, "GET, POST, HEAD, OPTIONS"]);
		const nowhere = await send("GET", "/v1/audit/nothing");
		expect([nowhere.status, nowhere.error.reason]).toEqual([404, "ROUTE_NOT_FOUND"]);
	});

	test("401 says how to authenticate", async () => {
		const response = await fetch(`${service.httpUrl}/v1/audit/events?tenant_id=acme`);
		expect([response.status, response.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
	});
});

test("HEAD answers as GET does, without a body", async () => {
	const response = await fetch(`${service.httpUrl}/v1/audit/events?tenant_id=acme`, {
		method: "HEAD",
		headers: { authorization: `Bearer ${key}` },
	});
	expect([response.status, await response.text()]).toEqual([200, ""]);
});

interface Answer {
	status: number;
	json: Record<string, unknown>;
	error: { code: string; reason: string; violations: { field: string; message: string }[] };
	requestId: string | null;
}

async function send(method: string, path: string, body?: unknown): Promise<Answer> {
	const response = await fetch(service.httpUrl + path, {
		method,
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
		...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
	});
	const json = (await response.json()) as Record<string, unknown>;
	const requestId = response.headers.get("x-request-id");
	return { status: response.status, json, error: json["error"] as Answer["error"], requestId };
}

/** The same moment on the clocks of a zone an hour ahead. */
function anHourAhead(time: Date): string {
	return new Date(time.getTime() + 3_600_000).toISOString().replace("Z", "+01:00");
}

function wholeSecond(time: Date): string {
	return time.toISOString().replace(/\.\d+Z$/, "Z");
}

function eventsOf(json: Record<string, unknown>): Record<string, unknown>[] {
	return json["events"] as Record<string, unknown>[];
}
