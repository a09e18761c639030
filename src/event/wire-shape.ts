import { type DescField, type DescMessage, fromBinary, type Message, ScalarType } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import type { Violation } from "../errors.ts";
import { elementPath, memberPath } from "./field-path.ts";
import { LIMITS } from "./limits.ts";

/** Finds where bytes that protobuf-es refused stop being a message. Only for bytes known to be malformed: it is slow. */
export function findMalformed(desc: DescMessage, bytes: Uint8Array): Violation {
	return search(desc, bytes, "") ?? malformed("");
}

function search(desc: DescMessage, bytes: Uint8Array, at: string): Violation | undefined {
	const counts = new Map<number, number>();
	try {
		const reader = new BinaryReader(bytes);
		while (reader.pos < reader.len) {
			const [number, wireType] = reader.tag();
			const field = desc.fields.find((candidate) => candidate.number === number);
			if (!field || wireType !== WireType.LengthDelimited) {
				if (field && isLengthDelimited(field)) return malformed(memberPath(at, field.name));
				reader.skip(wireType, number);
				continue;
			}
			const index = counts.get(number) ?? 0;
			counts.set(number, index + 1);
			const path = memberPath(at, field.name);
			const found = searchField(field, reader.bytes(), field.fieldKind === "list" ? elementPath(path, index) : path);
			if (found) return found;
		}
		return undefined;
	} catch {
		return malformed(at);
	}
}

/** Whether its values are written as lengths and bytes. There are no maps in what is read here. */
function isLengthDelimited({ message, scalar }: DescField): boolean {
	return message !== undefined || scalar === ScalarType.STRING || scalar === ScalarType.BYTES;
}

function searchField(field: DescField, bytes: Uint8Array, at: string): Violation | undefined {
	if (field.message && isReadable(field.message, bytes)) return undefined;
	// What is in a Struct has no fixed places to name.
	if (field.message?.typeName === "google.protobuf.Struct") return malformed(at);
	if (field.message) return search(field.message, bytes, at) ?? malformed(at);
	// Numbers come like this in lists only, packed.
	if (!isLengthDelimited(field)) return field.fieldKind === "list" ? undefined : malformed(at);
	const isText = field.scalar === ScalarType.STRING;
	return isText && !isUtf8(bytes) ? { field: at, message: "must be valid UTF-8" } : undefined;
}

/** Fields of a decoded message that this version does not know, at every depth, by their numbers; at most LIMITS.violations. */
export function findUnknownFields(desc: DescMessage, message: Message): Violation[] {
	const violations: Violation[] = [];
	collectUnknownFields(desc, message, "", violations);
	return violations;
}

function collectUnknownFields(desc: DescMessage, message: Message, at: string, found: Violation[]): void {
	for (const { no } of message.$unknown ?? []) {
		if (found.length === LIMITS.violations) return;
		found.push({ field: at, message: `has the field number ${no}, which this version does not know` });
	}
	for (const field of desc.fields) {
		// Generated messages are plain objects with their fields as properties; Structs are no messages here.
		if (!field.message || field.message.typeName === "google.protobuf.Struct") continue;
		const value = (message as unknown as Record<string, Message | Message[] | undefined>)[field.localName];
		const path = memberPath(at, field.name);
		if (!Array.isArray(value)) {
			if (value) collectUnknownFields(field.message, value, path, found);
			continue;
		}
		for (const [i, item] of value.entries()) collectUnknownFields(field.message, item, elementPath(path, i), found);
	}
}

function isReadable(desc: DescMessage, bytes: Uint8Array): boolean {
	try {
		fromBinary(desc, bytes);
		return true;
	} catch {
		return false;
	}
}

function isUtf8(bytes: Uint8Array): boolean {
	try {
		new TextDecoder("utf-8", { fatal: true }).decode(bytes);
		return true;
	} catch {
		return false;
	}
}

function malformed(at: string): Violation {
	return { field: at, message: "is not valid protobuf" };
}
