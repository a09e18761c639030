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

/** A parameter: a field of the request, or of a message in it. */
interface Param {
	readonly field: DescField;
	readonly within?: DescField;
}

/**
 * What a request has for parameters: its fields; of a message in it, such as a search, the fields of that. Such a search is
 * gone through whole, and has no pages.
 */
export function paramsOf({ fields }: DescMessage): Param[] {
	return fields.flatMap((field): Param[] => {
		const { message } = field;
		if (field.fieldKind !== "message" || !message || message.typeName.startsWith("google.")) return [{ field }];
		return message.fields
			.filter(({ name }) => name !== "page_size" && name !== "page_token")
			.map((inside) => ({ field: inside, within: field }));
	});
}

/**
 * Reads a request message from a URL's parameters: each is one, under its name in the schema; a list is the
 * parameter repeated. Made from the descriptor, so that a new filter needs nothing here.
 */
export function readParams<Desc extends DescMessage>(desc: Desc, params: URLSearchParams): Decoded<MessageShape<Desc>> {
	const json: JsonObject = {};
	const violations: Violation[] = [];
	const all = paramsOf(desc);
	for (const name of new Set(params.keys())) {
		const param = all.find(({ field: candidate }) => candidate.name === name || candidate.jsonName === name);
		const field = param?.field;
		const values = params.getAll(name).map((text) => valueOf(field, text));
		if (!field) {
			const known = all.map(({ field: candidate }) => candidate.name).join(", ");
			violations.push({ field: memberPath("", name), message: `is not a parameter; there are ${known}` });
		} else if (field.fieldKind === "list") {
			objectIn(json, param?.within)[name] = values;
		} else if (values.length > 1) {
			violations.push({ field: name, message: "must be given once" });
		} else if (values[0] !== undefined) {
			objectIn(json, param?.within)[name] = values[0];
		}
	}
	return readJson(desc, json, violations);
}

function objectIn(json: JsonObject, within: DescField | undefined): JsonObject {
	if (!within) return json;
	const inside = (json[within.name] ?? {}) as JsonObject;
	json[within.name] = inside;
	return inside;
}

/** Parameters are texts, as JSON's strings are: only an enum's number has to be told from its name, and yes from no. */
function valueOf(field: DescField | undefined, text: string): JsonValue {
	if (field?.scalar === ScalarType.BOOL && (text === "true" || text === "false")) return text === "true";
	return field?.enum && /^-?\d{1,10}$/.test(text) ? Number(text) : text;
}
