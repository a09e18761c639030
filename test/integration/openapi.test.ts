import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { fullFormats } from "ajv-formats/dist/formats.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";

/** docs/openapi.json is what the running service does: real requests and answers are held against it. */

interface Operation {
	readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean }[];
	readonly responses: Readonly<Record<string, unknown>>;
}

const text = readFileSync(join(import.meta.dirname, "../../docs/openapi.json"), "utf8");
const document = JSON.parse(text) as { paths: Record<string, Record<string, Operation>> };

let service: RpcService;
let key: string;
const ajv = new Ajv2020({ strict: false, allErrors: true, formats: fullFormats });

beforeAll(async () => {
	// A description may leave things out without being wrong; here nothing may be undescribed.
	ajv.addSchema(JSON.parse(text, closed) as object, "openapi");
	service = await startRpcService();
	key = await service.createKey("operator", "all");
});
afterAll(() => service.end());

/** Makes the schemas of objects refuse properties they do not name. */
function closed(_name: string, value: unknown): unknown {
	const isObject = typeof value === "object" && value !== null && "properties" in value && "type" in value;
	return isObject ? { ...value, additionalProperties: false } : value;
}

function schema(name: string): ValidateFunction {
	const validate = ajv.getSchema(`openapi#/components/schemas/${name}`);
	if (!validate) throw new Error(`there is no schema ${name}`);
	return validate;
}

async function send(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
	const response = await fetch(`${service.httpUrl}${path}`, {
		method,
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
		...(body !== undefined && { body: JSON.stringify(body) }),
	});
	return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}

function expectValid(name: string, json: unknown): void {
	const validate = schema(name);
	validate(json);
	expect(validate.errors ?? []).toEqual([]);
}

const person = { type: "ACTOR_TYPE_USER", id: "jane", display_name: "Jane", email: "jane@example.com" };
const yesterday = new Date(Date.now() - 86_400_000).toISOString();
const full = {
	id: "0f8fad5b-d9cb-469f-a165-70867728950e",
	tenant_id: "acme",
	occurred_at: yesterday,
	action: "file.moved",
	category: "CATEGORY_DATA",
	severity: "SEVERITY_NOTICE",
	outcome: "OUTCOME_DENIED",
	outcome_reason: "read only",
	source: "api",
	actor: person,
	on_behalf_of: [{ ...person, id: "joe" }],
	primary_resource: { type: "file", id: "f", display_name: "File", role: "subject" },
	related_resources: [{ type: "folder", id: "a", role: "from" }],
	context: {
		ip_address: "192.0.2.1",
		user_agent: "curl",
		request_id: "r",
		trace_id: "t",
		session_id: "s",
		location: "Berlin",
	},
	changes: { old_value: { folder: "a" }, new_value: { folder: "b" }, changed_fields: ["folder"] },
	description: "moved",
	reason: "T-1",
	metadata: { any: [1, null, { deep: true }] },
	schema_version: 3,
	retention_class: "long",
};

test("it is a valid OpenAPI 3.1 document", async () => {
	const validator = new Validator();
	expect(await validator.validate(text)).toEqual({ valid: true });
	expect(validator.version).toBe("3.1");
});

describe("answers are as described", () => {
	test("to writes, single and in a batch with a bad item", async () => {
		expectValid("Event", full);
		const written = await send("POST", "/v1/audit/events", full);
		expect(written.status).toBe(200);
		expectValid("WriteEventResponse", written.json);

		const batch = { mode: "BATCH_WRITE_MODE_PARTIAL", events: [full, { tenant_id: "acme", action: "A" }] };
		const answered = await send("POST", "/v1/audit/events:batch", batch);
		expect(answered.status).toBe(200);
		expect(answered.json["results"]).toHaveLength(2);
		expectValid("BatchWriteResponse", answered.json);
	});

	test("to reads: every field that was sent comes back, in a page and alone", async () => {
		const page = await send("GET", "/v1/audit/events?tenant_id=acme");
		expectValid("QueryResponse", page.json);
		const got = await send("GET", `/v1/audit/events/${full.id}?tenant_id=acme`);
		expectValid("Event", got.json);
		expect(Object.keys(got.json).sort()).toEqual([...Object.keys(full), "recorded_at", "integrity"].sort());
	});

	test("to what is refused, with a status that is listed", async () => {
		const refused = [
			await send("POST", "/v1/audit/events", { action: "A" }),
			await send("GET", "/v1/audit/events?tenant_id=acme", undefined, { authorization: "Bearer no" }),
			await send("GET", `/v1/audit/events/${full.id}?tenant_id=nobody`),
			await send("DELETE", "/v1/audit/events"),
			await send("POST", "/v1/audit/events", { ...full, description: "another" }),
			await send("POST", "/v1/audit/events", { ...full, metadata: { x: "x".repeat(4 * 1024 * 1024) } }),
		];
		expect(refused.map(({ status }) => status)).toEqual([400, 401, 404, 405, 409, 413]);
		for (const { status, json } of refused) {
			expectValid("Error", json);
			expect(document.paths["/v1/audit/events"]?.["get"]?.responses).toHaveProperty(String(status));
		}
	});
});

describe("requests are as described", () => {
	test("every parameter is one of the service's, and an invented one is not", async () => {
		const { parameters = [] } = document.paths["/v1/audit/events"]?.["get"] ?? {};
		expect(parameters.map(({ name }) => name)).toContain("occurred_after");
		for (const { name } of parameters) {
			const { json } = await send("GET", `/v1/audit/events?${name}=%00`);
			expect(JSON.stringify(json)).not.toContain("is not a parameter");
		}
		expect(JSON.stringify((await send("GET", "/v1/audit/events?invented=1")).json)).toContain("is not a parameter");
	});

	test("what the description refuses, the service refuses", async () => {
		const bad = [
			{ ...full, invented: 1 },
			{ ...full, action: undefined },
			{ ...full, actor: undefined },
			{ ...full, action: "UPPER" },
			{ ...full, category: "CATEGORY_NONE" },
			{ ...full, source: "x".repeat(257) },
			{ ...full, actor: { id: "" } },
			{ ...full, id: "no uuid" },
			{ ...full, occurred_at: "yesterday" },
			{ ...full, related_resources: Array.from({ length: 33 }, () => ({ id: "r" })) },
			{ ...full, schema_version: -1 },
		].map((event) => JSON.parse(JSON.stringify(event)) as object);
		for (const event of bad) {
			expect(schema("Event")(event), JSON.stringify(event)).toBe(false);
			expect((await send("POST", "/v1/audit/events", event)).status, JSON.stringify(event)).toBe(400);
		}
	});
});
