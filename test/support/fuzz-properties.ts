import { createSecretKey, type KeyObject } from "node:crypto";
import { create, fromJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { headers } from "nats";
import { expect } from "vitest";
import { formatApiKey, parseApiKey } from "../../src/auth/api-keys.ts";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { AuditError, type Violation } from "../../src/errors.ts";
import { admit } from "../../src/event/admit.ts";
import {
	type Decoded,
	decodeBatchBinary,
	decodeBatchJson,
	decodeBinary,
	decodeEventBinary,
	decodeEventJson,
	decodeJson,
	strictJsonText,
} from "../../src/event/decode.ts";
import type { EventId, EventInput, Micros, TenantId } from "../../src/event/event.ts";
import { LIMITS } from "../../src/event/limits.ts";
import { QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { decodeMessage } from "../../src/ingest/nats-message.ts";
import { parseSearch } from "../../src/query/filter.ts";
import { issuePageToken, openPageToken } from "../../src/query/page-token.ts";
import { readParams } from "../../src/rpc/rest-params.ts";
import { prepareRow } from "../../src/storage/row.ts";
import { CANARY, jsonTexts, parameters, protobufBytes, tokensLike } from "./fuzz-inputs.ts";

/** What holds for every input whatever: it is taken, and what is taken can be stored; or it is refused in proper words. */
export interface FuzzProperty {
	readonly name: string;
	/** Its part of all inputs. */
	readonly share: number;
	/** Fails, as a test does, if it does not hold for one of so many inputs. */
	readonly run: (inputs: number) => void;
}

const key = (byte: number): KeyObject => createSecretKey(Buffer.alloc(32, byte));
const now = 1_795_000_000_000_000n as Micros;
const tenant = "acme" as TenantId;
const everything = parseSearch(create(QueryRequestSchema), tenant, NOTHING_MASKED);
const cursor = { occurredAt: now, id: "01931b8f-0000-7000-8000-000000000001" as EventId };
const goodToken = issuePageToken(key(3), everything, cursor, 0);
const goodKey = formatApiKey({ id: "0123456789ab", secret: "0f".repeat(32) });

export const FUZZ_PROPERTIES: readonly FuzzProperty[] = [
	{
		name: "JSON for an event",
		share: 0.34,
		run: holds(
			fc.property(jsonTexts("event"), (text) => {
				const bytes = Buffer.from(text);
				const decoded = decodeEventJson(bytes);
				// Connect reads with a reader of its own what ours lets through: they must never judge differently.
				const strict = strictJsonText(EventSchema, bytes);
				expect(strict.ok).toBe(decoded.ok);
				if (strict.ok && decoded.ok) expect(fromJsonString(EventSchema, strict.input)).toEqual(decoded.input);
				judgeEvent(decoded);
			}),
		),
	},
	{
		name: "protobuf for an event",
		share: 0.34,
		run: holds(fc.property(protobufBytes("event"), (bytes) => judgeEvent(decodeEventBinary(bytes)))),
	},
	{
		name: "JSON and protobuf for a search",
		share: 0.12,
		run: holds(
			fc.property(jsonTexts("query"), protobufBytes("query"), (text, bytes) => {
				for (const decoded of [
					decodeJson(QueryRequestSchema, Buffer.from(text)),
					decodeBinary(QueryRequestSchema, bytes),
				]) {
					judge(decoded, (request) => refusable(() => parseSearch(request, tenant, NOTHING_MASKED)));
				}
			}),
		),
	},
	{
		name: "parameters of a search",
		share: 0.06,
		run: holds(
			fc.property(parameters(), (text) => {
				const decoded = readParams(QueryRequestSchema, new URLSearchParams(text));
				judge(decoded, (request) => refusable(() => parseSearch(request, tenant, NOTHING_MASKED)));
			}),
		),
	},
	{
		name: "page tokens and keys",
		share: 0.08,
		run: holds(
			fc.property(tokensLike(goodToken), tokensLike(goodKey), (token, apiKey) => {
				if (token !== goodToken) {
					expect(refusable(() => openPageToken(key(3), everything, token, 0))).toEqual([
						expect.objectContaining({ field: "page_token" }),
					]);
				}
				const parsed = parseApiKey(apiKey);
				if (parsed) expect(formatApiKey(parsed)).toBe(apiKey);
			}),
		),
	},
	{
		name: "messages",
		share: 0.06,
		run: holds(
			fc.property(
				fc.oneof(
					protobufBytes("event"),
					jsonTexts("event").map((text) => Buffer.from(text)),
				),
				fc.constantFrom("audit.events", "audit.events.acme", "audit.events.a.b"),
				fc.constantFrom("", "event", "batch", "s3cret"),
				(data, subject, type) => {
					const made = headers();
					if (type !== "") made.append("Audit-Type", type);
					const reply = "$JS.ACK.AUDIT.audit-writer.1.42.7.1769860800123456789.3";
					const items = decodeMessage({ subject, reply, data, headers: made }, new Date(0));
					expect(items.length).toBeGreaterThan(0);
					for (const { input, refusal } of items) {
						if (input) judgeEvent({ ok: true, input });
						else judgeRefusal(refusal?.violations ?? []);
					}
					for (const batch of [decodeBatchBinary(data), decodeBatchJson(data)])
						if (!batch.ok) judgeRefusal(batch.violations);
				},
			),
		),
	},
];

function holds<T>(property: fc.IProperty<T>): (inputs: number) => void {
	return (inputs) => fc.assert(property, { numRuns: Math.ceil(inputs) });
}

function judgeEvent(decoded: Decoded<EventInput>): void {
	judge(decoded, (input) => {
		const admitted = admit(input, {
			now,
			recordedBy: { door: "rpc", keyId: "key" },
			boundTenant: undefined,
			idSecret: key(1),
		});
		if (!admitted.ok) return admitted.violations;
		const { units, bytes } = admitted.event;
		expect(bytes).toBeLessThanOrEqual(LIMITS.eventBytes);
		for (const unit of Object.values(units)) {
			// What PostgreSQL would refuse, or give back otherwise.
			expect(unit.isWellFormed() && !unit.includes("\0") && !/\\u0000/.test(unit.replaceAll("\\\\", ""))).toBe(true);
			JSON.parse(unit);
		}
		expect(prepareRow(admitted.event, key(2)).leafHash).toHaveLength(32);
		return undefined;
	});
}

/** @param next goes on with what was read, and gives what is wrong with it */
function judge<T>(decoded: Decoded<T>, next: (input: T) => readonly Violation[] | undefined): void {
	const violations = decoded.ok ? next(decoded.input) : decoded.violations;
	if (violations) judgeRefusal(violations, { some: true });
}

function judgeRefusal(violations: readonly Violation[], { some = false } = {}): void {
	if (some && violations.length === 0) throw new Error("refused without a word");
	for (const { field, message } of violations) {
		if (message === "" || message.includes(CANARY)) throw new Error(`improper words: ${message}`);
		if (field.length > 2_000) throw new Error(`a path of ${field.length} characters`);
	}
}

/** The violations of an error that says what is wrong with its input; any other error goes on its way. */
function refusable(work: () => unknown): readonly Violation[] | undefined {
	try {
		work();
		return undefined;
	} catch (error) {
		if (error instanceof AuditError && error.code === "invalid_argument") return error.violations;
		throw error;
	}
}
