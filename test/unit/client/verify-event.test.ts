import { createSecretKey, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary, fromJson, type JsonObject, type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MASKABLE_UNITS, type MaskableUnit } from "../../../src/auth/principal.ts";
import { verifyEvent } from "../../../src/client/index.ts";
import { admit } from "../../../src/event/admit.ts";
import { type AuditEvent, type Micros, type TenantId, UNIT_PATHS } from "../../../src/event/event.ts";
import { MASKABLE } from "../../../src/event/unit.ts";
import {
	ActorTypeSchema,
	CategorySchema,
	type Event,
	EventSchema,
	OutcomeSchema,
	SeveritySchema,
} from "../../../src/gen/audit/v1/event_pb.ts";
import { commit } from "../../../src/integrity/entry.ts";
import { restJson } from "../../../src/rpc/rest-json.ts";
import { renderEvent } from "../../../src/storage/render-event.ts";
import { columnsOf, type EventRow, prepareRow } from "../../../src/storage/row.ts";
import { type CorpusCase, replay } from "../../corpus/case.ts";
import { alterations } from "../../support/alterations.ts";
import { goodEvents } from "../../support/good-events.ts";
import { leafByHand } from "../../support/leaf-by-hand.ts";

const now = 1_795_000_000_123_456n as Micros;
const secret = createSecretKey(randomBytes(32));

function rowOf(input: Event): EventRow {
	const admitted = admit(input, {
		now,
		recordedBy: { door: "nats", keyId: undefined },
		boundTenant: "acme" as TenantId,
		idSecret: secret,
	});
	if (!admitted.ok) throw new Error(JSON.stringify(admitted.violations));
	return prepareRow(admitted.event, secret);
}

/** What is answered of a row. PostgreSQL computes the commitments elsewhere: test/integration/masking.test.ts. */
function answer(row: EventRow, masked: ReadonlySet<MaskableUnit>): Event {
	const { leaf_hash, u_facts, ...columns } = columnsOf(row);
	const commitments = MASKABLE_UNITS.filter((path) => masked.has(path)).map(
		(path) => [`c_${path}`, commitmentOf(row, path)] as const,
	);
	const texts = MASKABLE_UNITS.map((path) => [`u_${path}`, masked.has(path) ? null : columns[`u_${path}`]] as const);
	return renderEvent(
		{
			...columns,
			...(Object.fromEntries(texts) as { [path in MaskableUnit as `u_${path}`]: string | null }),
			...(Object.fromEntries(commitments) as { [path in MaskableUnit as `c_${path}`]: Buffer | null }),
			u_facts,
			occurred_us: String(columns.occurred_at),
			recorded_us: String(columns.recorded_at),
			leaf_hash: Buffer.from(leaf_hash),
		},
		masked,
	);
}

function commitmentOf({ event, salts }: EventRow, path: MaskableUnit): Buffer | null {
	const text = event.units[path];
	if (text === undefined) return null;
	const n = present(event).indexOf(path);
	return Buffer.from(commit(path, salts.subarray(n * 16, n * 16 + 16), text));
}

const present = ({ units }: AuditEvent) => UNIT_PATHS.filter((path) => units[path] !== undefined);
const maskedOf = (event: AuditEvent, masked: ReadonlySet<MaskableUnit>) =>
	MASKABLE_UNITS.filter((path) => masked.has(path) && event.units[path] !== undefined).map((path) => MASKABLE[path]);

const folder = join(import.meta.dirname, "../../corpus/v1");
const cases = readdirSync(folder).map(
	(name) => [name, JSON.parse(readFileSync(join(folder, name), "utf8")) as CorpusCase] as const,
);

describe("an answer of the service", () => {
	test.each(cases)("hashes to its leaf, and altered anywhere it does not: %s", (_name, recorded) => {
		const event = fromJson(EventSchema, replay(recorded).rendering as unknown as JsonValue);
		expect(verifyEvent(event)).toEqual({ ok: true, masked: [] });
		const all = alterations(event);
		expect(all.length).toBeGreaterThan(20);
		expect(all.filter((altered) => verifyEvent(altered.event).ok).map(({ at }) => at)).toEqual([]);
	});

	test("whatever it is and whatever is masked of it: it hashes to its leaf over protobuf and JSON, and altered it does not", () => {
		fc.assert(
			fc.property(goodEvents(), fc.subarray([...MASKABLE_UNITS]), fc.nat(), (input, units, pick) => {
				const row = rowOf(create(EventSchema, input));
				const masked = new Set(units);
				const event = answer(row, masked);
				const verdict = { ok: true, masked: maskedOf(row.event, masked) };
				expect(verifyEvent(event)).toEqual(verdict);
				expect(verifyEvent(fromBinary(EventSchema, toBinary(EventSchema, event)))).toEqual(verdict);
				for (const useProtoFieldName of [true, false]) {
					const text = JSON.stringify(toJson(EventSchema, event, { useProtoFieldName }));
					expect(verifyEvent(fromJson(EventSchema, JSON.parse(text) as JsonValue))).toEqual(verdict);
				}
				const all = alterations(event);
				const altered = all[pick % all.length];
				expect([altered?.at, altered && verifyEvent(altered.event).ok]).toEqual([altered?.at, false]);
			}),
			{ numRuns: 200 },
		);
	});

	test("can be held against its leaf by others, with what docs/masking.md says and REST answers", () => {
		fc.assert(
			fc.property(goodEvents(), fc.subarray([...MASKABLE_UNITS]), (input, units) => {
				const event = answer(rowOf(create(EventSchema, input)), new Set(units));
				const json = JSON.parse(JSON.stringify(restJson(EventSchema, event))) as JsonObject & { integrity: JsonObject };
				expect(leafByHand(json)).toBe(json.integrity["leaf_hash"]);
			}),
			{ numRuns: 300 },
		);
	});

	test("is not the event of another leaf, such as a receipt's", () => {
		const row = rowOf(create(EventSchema, { action: "user.login", actor: { id: "jane" } }));
		const event = answer(row, new Set(["actor"]));
		expect(verifyEvent(event, row.leafHash).ok).toBe(true);
		const other = Uint8Array.from(row.leafHash, (byte, at) => (at === 31 ? byte ^ 1 : byte));
		expect(verifyEvent(event, other).ok).toBe(false);
		expect(verifyEvent(event, new Uint8Array(0)).ok).toBe(false);
	});

	test("without what a verifier needs is no proof of anything", () => {
		const row = rowOf(create(EventSchema, { action: "user.login", actor: { id: "jane" } }));
		const event = answer(row, new Set());
		expect(verifyEvent(create(EventSchema))).toMatchObject({ ok: false });
		delete event.integrity;
		expect(verifyEvent(event, row.leafHash)).toMatchObject({ ok: false });
	});
});

test("every enum has the names it had when the first event was stored", () => {
	// A unit spells a number that has no name as a number, for ever. Once there is a new name, events of before spell its number
	// and later ones the name: verifyEvent has to try both then.
	const names = [CategorySchema, SeveritySchema, OutcomeSchema, ActorTypeSchema].map(({ values }) => values.length);
	expect(names).toEqual([10, 8, 5, 7]);
});
