import {
	type DescMessage,
	fromBinary,
	fromJson,
	type JsonValue,
	type Message,
	type MessageShape,
} from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import type { Violation } from "../errors.ts";
import { BatchWriteRequestSchema } from "../gen/audit/v1/audit_service_pb.ts";
import { EventSchema } from "../gen/audit/v1/event_pb.ts";
import type { EventInput } from "./event.ts";
import { elementPath } from "./field-path.ts";
import { scanJson } from "./json-scan.ts";
import { checkMessage, schemaPath } from "./json-shape.ts";
import { LIMITS } from "./limits.ts";
import { findMalformed, findUnknownFields } from "./wire-shape.ts";

/** A message, or everything by which the bytes are none. The field "" is the message as a whole. */
export type Decoded<T> = { ok: true; input: T } | { ok: false; violations: Violation[] };

/** The events of a batch, each decoded by itself, so that one that is malformed does not spoil the others. */
export type DecodedBatch =
	| { ok: true; items: { source: Uint8Array; decoded: Decoded<EventInput> }[] }
	| { ok: false; violations: Violation[] };

export function decodeEventJson(body: Uint8Array | string): Decoded<EventInput> {
	return decodeJson(EventSchema, body);
}

export function decodeEventBinary(bytes: Uint8Array): Decoded<EventInput> {
	return decodeBinary(EventSchema, bytes);
}

/** @returns for each event its own JSON text as `source`; not ok if the text is no batch at all */
export function decodeBatchJson(body: Uint8Array | string): DecodedBatch {
	const parsed = parseJson(BatchWriteRequestSchema, body);
	if (!parsed.ok) return parsed;
	const { value, duplicates, text } = parsed.input;
	const { events = [], ...rest } = isObject(value) ? value : {};
	const violations = isObject(value) ? shapeViolations(BatchWriteRequestSchema, rest) : [problem("must be an object")];
	if (!Array.isArray(events)) violations.push(problem("must be a list", "events"));
	const ofEvent = (i: number) => duplicates.filter(({ field }) => field.startsWith(`${elementPath("events", i)}.`));
	violations.push(...duplicates.filter(({ field }) => !field.startsWith("events[")));
	if (violations.length > 0 || !Array.isArray(events)) return { ok: false, violations };

	const texts = scanJson(text).events.values();
	const items = events.map((event, i) => {
		const source = isContainer(event) ? (texts.next().value ?? "") : JSON.stringify(event);
		const at = elementPath("events", i);
		const twice = ofEvent(i).map(({ field, message }) => ({ field: field.slice(at.length + 1), message }));
		return { source: new TextEncoder().encode(source), decoded: readJson(EventSchema, event, twice) };
	});
	return { ok: true, items };
}

/** @returns for each event its own encoding as `source`; not ok if the bytes are no batch at all */
export function decodeBatchBinary(bytes: Uint8Array): DecodedBatch {
	const [events, mode] = [BatchWriteRequestSchema.field.events.number, BatchWriteRequestSchema.field.mode.number];
	const items: { source: Uint8Array; decoded: Decoded<EventInput> }[] = [];
	try {
		const reader = new BinaryReader(bytes);
		while (reader.pos < reader.len) {
			const [number, wireType] = reader.tag();
			if (number === events && wireType === WireType.LengthDelimited) {
				const source = reader.bytes();
				items.push({ source, decoded: decodeEventBinary(source) });
			} else if (number === mode) {
				reader.skip(wireType, number);
			} else {
				return { ok: false, violations: [problem(`has the unknown field number ${number}`)] };
			}
		}
	} catch {
		return { ok: false, violations: [problem("is not valid protobuf")] };
	}
	return { ok: true, items };
}

/** Reads a message from JSON text, strictly; both spellings of field names are taken. */
export function decodeJson<Desc extends DescMessage>(
	desc: Desc,
	body: Uint8Array | string,
): Decoded<MessageShape<Desc>> {
	const parsed = parseJson(desc, body);
	return parsed.ok ? readJson(desc, parsed.input.value, parsed.input.duplicates) : parsed;
}

/** For a reader of its own: the text if it is a message's JSON form, or everything by which it is not. */
export function strictJsonText(desc: DescMessage, body: Uint8Array): Decoded<string> {
	const parsed = parseJson(desc, body);
	if (!parsed.ok) return parsed;
	const violations = [...parsed.input.duplicates, ...shapeViolations(desc, parsed.input.value)];
	return violations.length > 0 ? { ok: false, violations } : { ok: true, input: parsed.input.text };
}

/** Reads a message from a JSON value, strictly. `violations`: what is known to be wrong with it already. */
export function readJson<Desc extends DescMessage>(
	desc: Desc,
	value: JsonValue,
	violations: Violation[] = [],
): Decoded<MessageShape<Desc>> {
	const all = [...violations, ...shapeViolations(desc, value)];
	if (all.length > 0) return { ok: false, violations: all };
	try {
		return { ok: true, input: fromJson(desc, value) };
	} catch {
		// Not reached by any input known; if the reader is stricter than the check, the answer is still a refusal.
		return { ok: false, violations: [problem(`is not valid as ${desc.name}`)] };
	}
}

/** Reads a message from protobuf bytes, strictly: fields unknown to this version would be lost, so they are refused. */
export function decodeBinary<Desc extends DescMessage>(desc: Desc, bytes: Uint8Array): Decoded<MessageShape<Desc>> {
	let input: MessageShape<Desc>;
	try {
		input = fromBinary(desc, bytes);
	} catch {
		return { ok: false, violations: [findMalformed(desc, bytes)] };
	}
	const violations = findUnknownFields(desc, input as Message);
	return violations.length > 0 ? { ok: false, violations } : { ok: true, input };
}

interface ParsedJson {
	readonly text: string;
	readonly value: JsonValue;
	readonly duplicates: Violation[];
}

function parseJson(desc: DescMessage, body: Uint8Array | string): Decoded<ParsedJson> {
	let text: string;
	try {
		text = typeof body === "string" ? body : new TextDecoder("utf-8", { fatal: true }).decode(body);
	} catch {
		return { ok: false, violations: [problem("is not valid UTF-8")] };
	}
	try {
		const value = JSON.parse(text) as JsonValue;
		const duplicates = scanJson(text).duplicates.map((path) => problem("is given twice", schemaPath(desc, path)));
		return { ok: true, input: { text, value, duplicates } };
	} catch (error) {
		// The rest of V8's message repeats the text.
		const place = / at position \d+/.exec((error as Error).message)?.[0] ?? "";
		return { ok: false, violations: [problem(`is not valid JSON${place}`)] };
	}
}

function shapeViolations(desc: DescMessage, value: JsonValue): Violation[] {
	const violations: Violation[] = [];
	checkMessage(desc, value, "", (field, message) => {
		if (violations.length < LIMITS.violations) violations.push({ field, message });
	});
	return violations;
}

function problem(message: string, field = ""): Violation {
	return { field, message };
}

function isObject(value: JsonValue): value is { [name: string]: JsonValue } {
	return isContainer(value) && !Array.isArray(value);
}

function isContainer(value: JsonValue): boolean {
	return typeof value === "object" && value !== null;
}
