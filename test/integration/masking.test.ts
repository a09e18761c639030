import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PERMISSIONS } from "../../src/auth/permissions.ts";
import { MASKABLE_UNITS, type MaskableUnit, ROLES, type Role } from "../../src/auth/principal.ts";
import { createAuditClient, verifyEvent } from "../../src/client/index.ts";
import { UNIT_PATHS } from "../../src/event/event.ts";
import { MASKABLE } from "../../src/event/unit.ts";
import { AuditService } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema, Unit } from "../../src/gen/audit/v1/event_pb.ts";
import { commit } from "../../src/integrity/entry.ts";
import { alterations } from "../support/alterations.ts";
import { type CanaryEvent, canaryEvent, FIELDS_OF, fieldsForgotten } from "../support/canary-event.ts";
import { checkTrail } from "../support/check-trail.ts";
import { leafByHand } from "../support/leaf-by-hand.ts";
import { callGrpc } from "../support/raw-grpc.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { testSecret } from "../support/services.ts";

/** What a key for which units are masked gets to see, at every door, to the last byte. */

let service: RpcService;
let canary: CanaryEvent;
let eventId: string;
let leaf: Uint8Array;
/** An event that has the unit it must have and no other. */
let bareId: string;

beforeAll(async () => {
	service = await startRpcService();
	const operator = createAuditClient({ url: service.httpUrl, key: await service.createKey("operator", "all") });
	canary = canaryEvent({ tenant_id: "acme", action: "file.shared", source: "dashboard" });
	const { eventId: id, receipt } = await operator.writeEvent({ event: canary.event });
	const bare = await operator.writeEvent({ event: { tenantId: "acme", action: "bare.event", actor: { id: "jane" } } });
	eventId = id;
	leaf = receipt?.leafHash ?? new Uint8Array();
	bareId = bare.eventId;
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

test("the canaries are in every field there is", () => {
	expect(fieldsForgotten()).toEqual([]);
	for (const unit of MASKABLE_UNITS) expect(canary.canaries[unit].length).toBeGreaterThan(0);
	expect(new Set(Object.values(canary.canaries).flat()).size).toBe(Object.values(canary.canaries).flat().length);
});

/** Everything a door answers about the event, as text; and the event in it, where it can be had whole. */
interface Seen {
	readonly door: string;
	readonly text: string;
	readonly event?: Event;
}

async function seenWith(key: string): Promise<Seen[]> {
	const search = { tenantId: "acme", actions: ["file.*"] };
	const [query, get, ...overHttp] = await Promise.all([
		callGrpc(service.grpcUrl, key, AuditService.method.query, search),
		callGrpc(service.grpcUrl, key, AuditService.method.getEvent, { tenantId: "acme", id: eventId }),
		fetched("Connect Query", key, "/audit.v1.AuditService/Query", search),
		fetched("Connect GetEvent", key, "/audit.v1.AuditService/GetEvent", { tenantId: "acme", id: eventId }),
		fetched("REST search", key, "/v1/audit/events?tenant_id=acme&actions=file.*"),
		fetched("REST get", key, `/v1/audit/events/${eventId}?tenant_id=acme`),
	]);
	return [
		{ door: "gRPC Query", text: query.text, ...(query.message?.events[0] && { event: query.message.events[0] }) },
		{ door: "gRPC GetEvent", text: get.text, ...(get.message?.event && { event: get.message.event }) },
		...overHttp,
		...(await printedWith(key)),
	];
}

async function fetched(door: string, key: string, path: string, body?: JsonObject): Promise<Seen> {
	const response = await fetch(service.httpUrl + path, {
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
		...(body && { method: "POST", body: JSON.stringify(body) }),
	});
	const text = await response.text();
	expect([door, response.status]).toEqual([door, 200]);
	const json = JSON.parse(text) as { events?: JsonValue[]; event?: JsonValue };
	const event = fromJson(EventSchema, json.events?.[0] ?? json.event ?? (json as JsonValue));
	return { door, text: JSON.stringify([...response.headers]) + text, event };
}

async function printedWith(key: string): Promise<Seen[]> {
	const env = { AUDIT_URL: service.httpUrl, AUDIT_KEY: key };
	const seen: Seen[] = [];
	for (const args of [
		["get", eventId],
		["query", "--action", "file.*", "-o", "csv"],
		["query", "--action", "file.*"],
	]) {
		const { exitCode, stdout, stderr } = await runCli([...args, "--tenant", "acme"], env);
		expect([args, exitCode, stderr]).toEqual([args, 0, ""]);
		const isJson = args[0] === "get";
		const event = isJson ? { event: fromJson(EventSchema, JSON.parse(stdout) as JsonValue) } : {};
		seen.push({ door: `auditlog ${args.join(" ")}`, text: stdout + stderr, ...event });
	}
	return seen;
}

/** The commitments, from what is stored. */
async function commitments(id: string): Promise<Partial<Record<MaskableUnit, string>>> {
	const admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	const { rows } = await admin.query<Record<string, string> & { salts: Buffer }>(
		"SELECT * FROM audit.events WHERE id = $1",
		[id],
	);
	await admin.end();
	const [row] = rows;
	if (!row) throw new Error("the event is not stored");
	const present = UNIT_PATHS.filter((path) => row[`u_${path}`] !== null);
	const all = present.map((path, i) => {
		const salt = row.salts.subarray(i * 16, i * 16 + 16);
		return [path, Buffer.from(commit(path, salt, row[`u_${path}`] as string)).toString("hex")] as const;
	});
	return Object.fromEntries(all);
}

const SHORTENED = /^auditlog query/;

describe.each([
	...MASKABLE_UNITS.map((unit) => ["reader", [unit]] as const),
	["reader", ["actor", "metadata"]] as const,
	["operator", ["context"]] as const,
	["auditor", []] as const,
])("to a key of a %s with %j masked", (role, denied) => {
	const masked: readonly MaskableUnit[] = role === "auditor" ? MASKABLE_UNITS : denied;
	let seen: Seen[];
	let key: string;

	beforeAll(async () => {
		key = await service.createKey(role, role === "operator" ? "all" : ["acme"], denied);
		seen = await seenWith(key);
		expect(seen).toHaveLength(9);
	});

	test("nothing of what is masked is shown, at any door", () => {
		for (const { door, text, event } of seen) {
			for (const unit of masked) {
				const leaked = canary.canaries[unit].filter((each) => text.includes(each));
				expect([door, unit, leaked]).toEqual([door, unit, []]);
				const fields = EventSchema.fields.filter(({ name }) => FIELDS_OF[unit].includes(name));
				for (const { localName } of event ? fields : []) {
					expect(["", undefined]).toContainEqual([event?.[localName as keyof Event]].flat()[0]);
				}
			}
		}
	});

	test("all the rest is shown, to the last field", () => {
		for (const { door, text } of seen.filter((each) => !SHORTENED.test(each.door))) {
			for (const unit of MASKABLE_UNITS.filter((each) => !masked.includes(each))) {
				const missing = canary.canaries[unit].filter((each) => !text.includes(each));
				expect([door, unit, missing]).toEqual([door, unit, []]);
			}
		}
	});

	test("what is masked is named, with the commitment of what is stored", async () => {
		const stored = await commitments(eventId);
		const expected = masked.map((unit) => [MASKABLE[unit], stored[unit]]);
		for (const { door, event } of seen.filter((each) => each.event)) {
			const named = event?.integrity?.maskedUnits.map(({ unit, commitment }) => [
				unit,
				Buffer.from(commitment).toString("hex"),
			]);
			expect([door, named]).toEqual([door, expected]);
		}
	});

	test("every answer hashes to the leaf in the writer's receipt; altered anywhere it does not", () => {
		const verdict = { ok: true, masked: masked.map((unit) => MASKABLE[unit]) };
		const events = seen.flatMap(({ event }) => event ?? []);
		expect(events).toHaveLength(7);
		for (const event of events) expect(verifyEvent(event, leaf)).toEqual(verdict);
		const rest = seen.find(({ door }) => door === "REST get")?.text ?? "";
		expect(leafByHand(JSON.parse(rest.slice(rest.indexOf("{"))) as JsonObject)).toBe(
			Buffer.from(leaf).toString("base64"),
		);
		const all = events.slice(0, 1).flatMap(alterations);
		expect(all.length).toBeGreaterThan(30);
		expect(all.filter(({ event }) => verifyEvent(event).ok).map(({ at }) => at)).toEqual([]);
	});

	test("in tables and CSV what is masked does not look like what is not there", () => {
		const printed = (what: RegExp) => seen.find(({ door }) => what.test(door))?.text ?? "";
		expect(
			printed(/-o csv/)
				.trimEnd()
				.endsWith(`,${masked.join(" ")}`),
		).toBe(true);
		const cells = ["actor", "resources"].filter((unit) => masked.includes(unit as MaskableUnit));
		expect(printed(/file\.\*$/).match(/\(masked\)/g) ?? []).toHaveLength(cells.length);
	});

	test("what an event never had is not said to be masked", async () => {
		const { message } = await callGrpc(service.grpcUrl, key, AuditService.method.getEvent, {
			tenantId: "acme",
			id: bareId,
		});
		const event = message?.event;
		const units = masked.includes("actor") ? [Unit.ACTOR] : [];
		expect(event?.integrity?.maskedUnits.map(({ unit }) => unit)).toEqual(units);
		expect(event && verifyEvent(event)).toEqual({ ok: true, masked: units });
	});
});

const READERS = ROLES.filter((role) => (PERMISSIONS.query as readonly Role[]).includes(role) && role !== "auditor");

test.each(READERS)("to a %s's key without masks nothing is masked, and its answers verify", async (role) => {
	const key = await service.createKey(role, ["acme"]);
	const { events } = await createAuditClient({ url: service.httpUrl, key }).query({ tenantId: "acme" });
	// The first event of the log is the service's own.
	expect(events.map(({ action }) => action).sort()).toEqual(["audit.log.created", "bare.event", "file.shared"]);
	for (const event of events) {
		expect(verifyEvent(event)).toEqual({ ok: true, masked: [] });
		expect(alterations(event).filter((altered) => verifyEvent(altered.event).ok)).toEqual([]);
	}
	const text = JSON.stringify(events, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
	expect(
		Object.values(canary.canaries)
			.flat()
			.filter((each) => !text.includes(each)),
	).toEqual([]);
});

test("dead letters are whole messages: an operator's key with masks is denied them, one without is not", async () => {
	const codes = async (key: string) => {
		const calls = {
			ListDeadLetters: {},
			GetDeadLetter: { id: "x" },
			RedriveDeadLetters: { ids: ["x"] },
			DiscardDeadLetters: {},
		};
		const answers = Object.entries(calls).map(async ([name, body]) => {
			const response = await fetch(`${service.httpUrl}/audit.v1.DeadLetterService/${name}`, {
				method: "POST",
				headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
				body: JSON.stringify(body),
			});
			const text = await response.text();
			return `${response.status} ${text.includes("this key may not call") ? "denied" : "let pass"}`;
		});
		return Promise.all(answers);
	};
	expect(new Set(await codes(await service.createKey("operator", "all", ["reason"])))).toEqual(new Set(["403 denied"]));
	expect(await codes(await service.createKey("operator", "all"))).toEqual([
		"200 let pass",
		"400 let pass",
		"400 let pass",
		"400 let pass",
	]);
});
