import {
	type DescField,
	type DescMessage,
	type JsonObject,
	type JsonValue,
	type MessageShape,
	ScalarType,
	toJson,
} from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { EventSchema } from "../gen/audit/v1/event_pb.ts";

/**
 * The REST form of a message: snake_case, times with six fractional digits, and in everything around an event the empty
 * lists, texts, zeros and false that protobuf's JSON leaves out. An event holds what it holds and no more.
 */
export function restJson<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): JsonObject {
	return inRestForm(desc, toJson(desc, message, { useProtoFieldName: true }) as JsonObject, true);
}

/** @param around whether this is around events, where nothing is left out */
function inRestForm(desc: DescMessage, json: JsonObject, around: boolean): JsonObject {
	const complete = around && desc.typeName !== EventSchema.typeName;
	for (const field of desc.fields) {
		const value = json[field.name];
		const inside = field.message;
		if (value === undefined) {
			const empty = complete ? emptyOf(field) : undefined;
			if (empty !== undefined) json[field.name] = empty;
		} else if (inside) {
			json[field.name] = Array.isArray(value)
				? value.map((item) => messageInRestForm(inside, item, complete))
				: messageInRestForm(inside, value, complete);
		}
	}
	return json;
}

function messageInRestForm(desc: DescMessage, value: JsonValue, around: boolean): JsonValue {
	if (desc.typeName === "google.protobuf.Timestamp") return withSixDigits(value as string);
	// What is in a Struct is the caller's own, keys included.
	if (desc.typeName.startsWith("google.protobuf.")) return value;
	return inRestForm(desc, value as JsonObject, around);
}

/** protobuf writes 0, 3, 6 or 9 digits; the service's times have microseconds. */
function withSixDigits(time: string): string {
	const [, whole = "", digits = ""] = /^(.{19})(?:\.(\d+))?Z$/.exec(time) ?? [];
	return `${whole}.${digits.padEnd(6, "0").slice(0, 6)}Z`;
}

/** What a field holds when it holds nothing; undefined if it is rather absent then. */
function emptyOf(field: DescField): JsonValue | undefined {
	if (field.fieldKind === "list") return [];
	if (field.fieldKind !== "scalar" || field.presence !== FeatureSet_FieldPresence.IMPLICIT) return undefined;
	if (field.scalar === ScalarType.STRING) return "";
	// As protobuf's JSON has 64-bit numbers.
	if (field.scalar === ScalarType.INT64) return "0";
	return field.scalar === ScalarType.BOOL ? false : undefined;
}
