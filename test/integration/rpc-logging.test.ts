import { once } from "node:events";
import { connect } from "node:net";
import { Client } from "pg";
import { beforeAll, expect, test } from "vitest";
import { createKey } from "../support/rpc-service.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, type TestDatabase, waitFor } from "../support/services.ts";

let database: TestDatabase;
let key: string;

beforeAll(async () => {
	database = await createTestDatabase();
	key = await createKey(database.url, "operator", "all");
	return () => database.drop();
});

const CANARY = "canary-5f2d";
const RPC = "/audit.v1.AuditService";

test("what fails is told once, with its request id, and holds nothing a caller sent", async () => {
	const service = await startService({
		DATABASE_URL: database.url,
		AUDIT_AUTO_CREATE_TENANTS: "true",
		LOG_LEVEL: "debug",
	});
	const lines = () =>
		service.stdout
			.split("\n")
			.filter((line) => line.includes('"msg":"call'))
			.map((line) => JSON.parse(line) as Record<string, unknown>);
	const send = async (requestId: string, path: string, body: unknown, headers: Record<string, string> = {}) => {
		const response = await fetch(service.httpUrl + path, {
			method: "POST",
			headers: {
				"content-type": "application/json",
				"x-request-id": requestId,
				authorization: `Bearer ${key}`,
				...headers,
			},
			body: typeof body === "string" ? body : JSON.stringify(body),
		});
		const text = await response.text();
		const line = await waitFor(() => lines().find((candidate) => candidate["request_id"] === requestId));
		return { status: response.status, text, line };
	};
	const event = { tenantId: "acme", action: "user.login", actor: { id: CANARY }, metadata: { [CANARY]: CANARY } };
	const invalid = { ...event, action: CANARY.toUpperCase(), [CANARY]: 1 };

	const fine = await send("fine", `${RPC}/WriteEvent`, { event });
	expect(fine.line).toMatchObject({ level: 20, call: "WriteEvent", protocol: "connect", key_id: key.split("_")[1] });
	const refused = await send("refused", `${RPC}/WriteEvent`, { event: invalid });
	expect(refused.line).toMatchObject({ level: 30, code: "invalid_argument", reason: "MALFORMED_REQUEST" });
	const overRest = await send("rest", "/v1/audit/events", invalid);
	expect(overRest.line).toMatchObject({ level: 30, call: "REST writeEvent", code: "invalid_argument" });
	const unknown = await send("unknown", `${RPC}/WriteEvent`, { event }, { authorization: `Bearer ${CANARY}` });
	expect(unknown.line).toMatchObject({ level: 30, code: "unauthenticated" });
	await send("malformed", `${RPC}/WriteEvent`, CANARY);
	await send("no-protobuf", `${RPC}/WriteEvent`, CANARY, { "content-type": "application/proto" });
	await send("base64", `${RPC}/Query`, { tenantId: CANARY, pageToken: CANARY });

	// A caller that leaves is no fault.
	const socket = connect(Number(new URL(service.httpUrl).port), "127.0.0.1");
	await once(socket, "connect");
	const head = `POST ${RPC}/WriteEvent HTTP/1.1\r\nHost: a\r\nx-request-id: left\r\nAuthorization: Bearer ${key}\r\n`;
	socket.write(`${head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"event":`);
	await new Promise((resolve) => socket.write('"', resolve));
	socket.destroy();
	const left = await waitFor(() => lines().find((candidate) => candidate["request_id"] === "left"));
	expect(left["level"]).toBeLessThanOrEqual(30);

	// A fault of ours: the caller learns nothing of it, the log all but the values.
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	await admin.query("ALTER TABLE audit.events RENAME COLUMN actor_id TO actor");
	for (const [requestId, path] of [
		["ours-1", `${RPC}/Query`],
		["ours-2", `/v1/audit/events?tenant_id=acme&actor_ids=${CANARY}`],
	] as const) {
		const response = await fetch(service.httpUrl + path, {
			headers: { "x-request-id": requestId, authorization: `Bearer ${key}`, "content-type": "application/json" },
			...(path.startsWith(RPC) && {
				method: "POST",
				body: JSON.stringify({ tenantId: "acme", actorIds: [CANARY] }),
			}),
		});
		const text = await response.text();
		expect([response.status, JSON.parse(text)]).toEqual([500, expect.anything()]);
		expect(text).toContain('"internal error"');
		expect(text).not.toMatch(/SELECT|column|\bat /);
		const line = await waitFor(() => lines().find((candidate) => candidate["request_id"] === requestId));
		expect(line).toMatchObject({ level: 50, code: "internal", cause: { code: "42703" } });
	}
	await admin.end();

	expect(await service.stop()).toBe(0);
	expect(service.stdout + service.stderr).not.toContain(CANARY);
	expect(lines()).toHaveLength(10);
	// Where it went wrong inside is told of our faults only.
	for (const line of lines()) expect("cause" in line).toBe(line["level"] === 50);
});
