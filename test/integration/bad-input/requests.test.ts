import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTenantClient } from "../../../src/client/index.ts";
import { startDoors } from "../../support/rpc-service.ts";
import { BATCHES } from "./batch-rows.ts";
import { CALLERS, sameText } from "./caller-rows.ts";
import { type Answer, amiss, openGrpc, sendConnect, sendGrpc, sendGrpcWeb, sendRest } from "./doors.ts";
import { NATS } from "./nats-rows.ts";
import { READS } from "./read-rows.ts";
import type { Expected, RequestRow } from "./request-rows.ts";
import { TRANSPORT } from "./transport-rows.ts";
import { openWorld, type World } from "./world.ts";

/** Everything of the catalogue that is not one event: requests, callers, batches, questions, messages. */

let world: World;
beforeAll(async () => {
	world = await openWorld();
	for (const tenant_id of ["acme", "globex"]) {
		const body = JSON.stringify({ tenant_id, action: "bad.input", actor: { id: "jane" }, source: "api" });
		await sendRest(world.httpUrl, "POST", "/v1/audit/events", { body, key: world.key });
	}
	const tenants = createTenantClient({ url: world.httpUrl, key: world.key });
	await tenants.createTenant({ id: "closed" });
	await tenants.disableTenant({ id: "closed", reason: "for row 48" });
});
afterAll(() => world.end());

describe.each([
	["requests", TRANSPORT],
	["callers", CALLERS],
	["batches", BATCHES],
	["questions", READS],
	["messages", NATS],
])("%s", (_, rows) => {
	test.each(rows.map((row) => [`${row.row}: ${row.what}`, row] as const))("%s", async (_, { doors, expected }) => {
		for (const [door, send] of Object.entries(doors)) judge(door, await send(world), expected);
	});
});

test("who is not known gets the same answer to the byte, whatever is wrong", async () => {
	const unknown = CALLERS.filter(({ expected }) => expected.code === "unauthenticated");
	const doors = Object.keys(unknown[0]?.doors ?? {});
	expect(doors.length).toBeGreaterThan(3);
	for (const door of doors) await expectSame(door, unknown);
});

test("a tenant of others cannot be told from one that nobody has, to the byte", async () => {
	const hidden = CALLERS.filter(({ expected }) => expected.reason === "TENANT_NOT_FOUND");
	expect(hidden).toHaveLength(2);
	for (const door of Object.keys(hidden[0]?.doors ?? {})) await expectSame(door, hidden);
});

test("where a retry helps, every door says after how long", async () => {
	const doors = await startDoors({ limits: { inFlightBytes: 1 } });
	const grpc = openGrpc(doors.grpcUrl);
	const sending = { body: '{"event":{}}', key: doors.createKey("operator") };
	const answers = await Promise.all([
		sendConnect(doors.httpUrl, "WriteEvent", "application/json", sending),
		sendGrpc(grpc, "WriteEvent", "application/grpc+json", sending),
		sendGrpcWeb(doors.httpUrl, "WriteEvent", "application/grpc-web+json", sending),
		sendRest(doors.httpUrl, "POST", "/v1/audit/events", sending),
	]);
	for (const answer of answers) {
		expect(answer.refusal).toMatchObject({
			code: "resource_exhausted",
			reason: "IN_FLIGHT_BYTES",
			retryAfterMs: 500,
		});
		expect(amiss(answer)).toEqual([]);
	}
	grpc.close();
	await doors.close();
});

async function expectSame(door: string, rows: readonly RequestRow[]): Promise<void> {
	const answers = await Promise.all(rows.flatMap(({ doors }) => doors[door]?.(world) ?? []));
	expect(new Set(answers.map(sameText)).size).toBe(1);
}

function judge(door: string, answer: Answer, expected: Expected): void {
	const { refusal, status, text } = answer;
	const codes = [expected.code].flat();
	// As pairs with the door's name, so that a failure says which door it was.
	expect([door, refusal]).toEqual([door, refusal && expect.objectContaining({ code: expect.toBeOneOf(codes) })]);
	if (!refusal) expect([door, codes]).toEqual([door, expect.arrayContaining(["ok"])]);
	expect([door, text]).toEqual([door, expect.not.stringMatching(/s3cret/i)]);
	if (expected.status !== undefined) expect([door, status]).toEqual([door, expected.status]);
	if (expected.json !== undefined && door === "REST") expect(answer.json).toMatchObject(expected.json as object);
	if (!refusal) return;
	expect([door, amiss(answer)]).toEqual([door, []]);
	if (expected.reason !== undefined) {
		expect([door, refusal.reason]).toEqual([door, expect.toBeOneOf([expected.reason].flat())]);
	}
	if (expected.fields) {
		// `a|b`: what is called one thing at one door is called another at another.
		const fields = expected.fields.map((field) => expect.toBeOneOf(field.split("|")));
		const got = refusal.violations.map(({ field }) => field);
		expect([door, got]).toEqual([door, expect.arrayContaining(fields)]);
		expect([door, got.length]).toEqual([door, fields.length]);
	}
	if (expected.says) {
		const said = [refusal.message, ...refusal.violations.map(({ message }) => message)];
		expect([door, said]).toEqual([door, expect.arrayContaining([expect.stringMatching(expected.says)])]);
	}
}
