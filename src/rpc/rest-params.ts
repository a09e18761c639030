import {
	type DescField,
	type DescMessage,
	type JsonObject,
	type JsonValue,
	type MessageShape,
	ScalarType,
} from "@bufbuild/protobuf";
import type { Violation } from "../errors.ts";
import { type Decoded, readJson } from "../event/decode.ts";
import { memberPath } from "../event/field-path.ts";

/**
 * Reads a request message from a URL's parameters: each field is one, under its name in the schema; a list is the
 * parameter repeated. Made from the descriptor, so that a new filter needs nothing here.
 */
export function readParams<Desc extends DescMessage>(desc: Desc, params: URLSearchParams): Decoded<MessageShape<Desc>> {
	const json: JsonObject = {};
	const violations: Violation[] = [];
	for (const name of new Set(params.keys())) {
		const field = desc.fields.find((candidate) => candidate.name === name || candidate.jsonName === name);
		const values = params.getAll(name).map((text) => valueOf(field, text));
		if (!field) {
			const known = desc.fields.map((candidate) => candidate.name).join(", ");
			violations.push({ field: memberPath("", name), message: `is not a parameter; there are ${known}` });
		} else if (field.fieldKind === "list") {
			json[name] = values;
		} else if (values.length > 1) {
			violations.push({ field: name, message: "must be given once" });
		} else if (values[0] !== undefined) {
			json[name] = values[0];
		}
	}
	return readJson(desc, json, violations);
}

/** Parameters are texts, as JSON's strings are: only an enum's number has to be told from its name, and yes from no. */
function valueOf(field: DescField | undefined, text: string): JsonValue {
	if (field?.scalar === ScalarType.BOOL && (text === "true" || text === "false")) return text === "true";
	return field?.enum && /^-?\d{1,10}$/.test(text) ? Number(text) : text;
}
