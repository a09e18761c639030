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

/** A field of a request that is a message, of which these fields are parameters as the request's own are. */
export interface Spread {
	readonly field: string;
	/** Those of its fields that are none. */
	readonly without: readonly string[];
}

/**
 * Reads a request message from a URL's parameters: each is one, under its name in the schema; a list is the
 * parameter repeated. Made from the descriptor, so that a new filter needs nothing here.
 */
export function readParams<Desc extends DescMessage>(
	desc: Desc,
	params: URLSearchParams,
	spread?: Spread,
): Decoded<MessageShape<Desc>> {
	const own: JsonObject = {};
	const inside: JsonObject = {};
	const violations: Violation[] = [];
	const fields = parametersOf(desc, spread);
	for (const name of new Set(params.keys())) {
		const field = fields.find((candidate) => candidate.name === name || candidate.jsonName === name);
		const values = params.getAll(name).map((text) => valueOf(field, text));
		const json = field?.parent === desc ? own : inside;
		if (!field) {
			const known = fields.map((candidate) => candidate.name).join(", ");
			violations.push({ field: memberPath("", name), message: `is not a parameter; there are ${known}` });
		} else if (field.fieldKind === "list") {
			json[name] = values;
		} else if (values.length > 1) {
			violations.push({ field: name, message: "must be given once" });
		} else if (values[0] !== undefined) {
			json[name] = values[0];
		}
	}
	if (!spread) return readJson(desc, own, violations);
	const decoded = readJson(desc, { ...own, [spread.field]: inside }, violations);
	if (decoded.ok) return decoded;
	const within = `${spread.field}.`;
	const asGiven = (path: string) => (path.startsWith(within) ? path.slice(within.length) : path);
	return { ok: false, violations: decoded.violations.map((each) => ({ ...each, field: asGiven(each.field) })) };
}

/** The fields of a request, and of a message in it, that are parameters. */
export function parametersOf(desc: DescMessage, spread?: Spread): readonly DescField[] {
	if (!spread) return desc.fields;
	return desc.fields.flatMap((field) => {
		if (field.name !== spread.field) return [field];
		return (field.message?.fields ?? []).filter(({ name }) => !spread.without.includes(name));
	});
}

/** Parameters are texts, as JSON's strings are: only an enum's number has to be told from its name, and yes from no. */
function valueOf(field: DescField | undefined, text: string): JsonValue {
	if (field?.scalar === ScalarType.BOOL && (text === "true" || text === "false")) return text === "true";
	return field?.enum && /^-?\d{1,10}$/.test(text) ? Number(text) : text;
}
