import { type DescEnum, type DescField, type DescMessage, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { elementPath, memberPath } from "./field-path.ts";
import { LIMITS } from "./limits.ts";

export type Report = (field: string, message: string) => void;

/**
 * Reports everything by which a JSON value is not the JSON form of a message: unknown names, wrong types, unknown enum
 * words, times that do not exist. protobuf-es's own reader stops at the first and repeats the value it found.
 */
export function checkMessage(desc: DescMessage, value: JsonValue, at: string, report: Report): void {
	if (value === null || typeof value !== "object" || Array.isArray(value)) return report(at, "must be an object");
	const fields = fieldsOf(desc);
	const seen = new Set<DescField>();
	for (const [name, member] of Object.entries(value)) {
		const field = fields.get(name);
		if (!field) {
			report(memberPath(at, name), `is not a field of ${desc.name}`);
			continue;
		}
		const path = memberPath(at, field.name);
		if (seen.has(field)) report(path, "is given twice, in two spellings");
		seen.add(field);
		if (member !== null) checkField(field, member, path, report);
	}
}

/** The path of a place in a JSON text, with fields by their names in the schema. */
export function schemaPath(desc: DescMessage, path: readonly (string | number)[]): string {
	let inside: DescMessage | undefined = desc;
	let at = "";
	for (const step of path) {
		if (typeof step === "number") {
			at = elementPath(at, step);
			continue;
		}
		const field: DescField | undefined = inside && fieldsOf(inside).get(step);
		at = memberPath(at, field?.name ?? step);
		inside = field?.message;
	}
	return at;
}

const fieldsByDesc = new WeakMap<DescMessage, Map<string, DescField>>();

/** A message's fields by both their names: snake_case and lowerCamel. */
function fieldsOf(desc: DescMessage): Map<string, DescField> {
	let fields = fieldsByDesc.get(desc);
	if (!fields) {
		fields = new Map(
			desc.fields.flatMap((field) => [field.name, field.jsonName].map((name) => [name, field] as const)),
		);
		fieldsByDesc.set(desc, fields);
	}
	return fields;
}

function checkField(field: DescField, value: JsonValue, at: string, report: Report): void {
	if (field.fieldKind !== "list") return checkSingular(field, value, at, report);
	if (!Array.isArray(value)) return report(at, "must be a list");
	value.forEach((item, i) => {
		if (item === null) report(elementPath(at, i), "must not be null");
		else checkSingular(field, item, elementPath(at, i), report);
	});
}

function checkSingular(field: DescField, value: JsonValue, at: string, report: Report): void {
	if (field.enum) return checkEnum(field.enum, value, at, report);
	if (field.message?.typeName === "google.protobuf.Timestamp") return checkTime(value, at, report);
	if (field.message?.typeName === "google.protobuf.Struct") return checkStruct(value, at, report);
	if (field.message) return checkMessage(field.message, value, at, report);
	checkScalar(field.scalar, value, at, report);
}

function checkEnum(desc: DescEnum, value: JsonValue, at: string, report: Report): void {
	// Numbers unknown to this version are kept; names cannot be.
	if (typeof value === "number" && Number.isInteger(value) && value === (value | 0)) return;
	if (typeof value === "string" && desc.values.some(({ name }) => name === value)) return;
	report(at, `must be one of ${desc.values.map(({ name }) => name).join(", ")}`);
}

function checkTime(value: JsonValue, at: string, report: Report): void {
	if (typeof value === "string" && isRfc3339(value)) return;
	report(at, "must be an RFC 3339 time such as 2026-01-31T12:00:00.000001Z");
}

/** Whether this is a time that exists: Date.parse takes 31 February for 3 March. */
function isRfc3339(text: string): boolean {
	const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/.exec(text);
	if (!match) return false;
	const local = new Date(`${match[1]}Z`);
	if (Number.isNaN(local.getTime()) || local.toISOString().slice(0, 19) !== match[1]) return false;
	const utc = Date.parse(text);
	return utc >= Date.parse("0001-01-01T00:00:00Z") && utc <= Date.parse("9999-12-31T23:59:59.999Z");
}

/** Depth alone, because readers further on recurse: what is inside is admission's to judge. */
function checkStruct(value: JsonValue, at: string, report: Report): void {
	if (value === null || typeof value !== "object" || Array.isArray(value)) return report(at, "must be an object");
	const descend = (item: JsonValue, path: string, depth: number): void => {
		if (item === null || typeof item !== "object") return;
		if (depth > LIMITS.structDepth) return report(path, `is nested deeper than ${LIMITS.structDepth} levels`);
		if (Array.isArray(item)) item.forEach((element, i) => descend(element, elementPath(path, i), depth + 1));
		else for (const [name, member] of Object.entries(item)) descend(member, memberPath(path, name), depth + 1);
	};
	descend(value, at, 1);
}

function checkScalar(scalar: ScalarType | undefined, value: JsonValue, at: string, report: Report): void {
	const range = scalar === undefined ? undefined : INTEGERS.get(scalar);
	if (range) return checkInteger(value, range, at, report);
	if (scalar === ScalarType.STRING) {
		if (typeof value !== "string") report(at, "must be a string");
		else if (!value.isWellFormed()) report(at, "must be well-formed Unicode (it has a lone surrogate)");
	} else if (scalar === ScalarType.BOOL) {
		if (typeof value !== "boolean") report(at, "must be true or false");
	} else if (scalar === ScalarType.BYTES) {
		if (typeof value !== "string" || !/^[\w+/-]*={0,2}$/.test(value)) report(at, "must be a base64 string");
	}
}

type Range = readonly [min: bigint, max: bigint];

const INTEGERS = new Map<ScalarType, Range>([
	[ScalarType.INT32, [-(2n ** 31n), 2n ** 31n - 1n]],
	[ScalarType.UINT32, [0n, 2n ** 32n - 1n]],
	[ScalarType.INT64, [-(2n ** 63n), 2n ** 63n - 1n]],
]);

/** An integer may be a number, or a string of digits: then it may be larger than a JSON number can exactly be. */
function checkInteger(value: JsonValue, [min, max]: Range, at: string, report: Report): void {
	const exact = typeof value === "number" ? Number.isSafeInteger(value) : isDigits(value);
	const integer = exact ? BigInt(value as number | string) : undefined;
	if (integer === undefined || integer < min || integer > max) {
		report(at, `must be an integer from ${min} to ${max}`);
	}
}

function isDigits(value: JsonValue): boolean {
	return typeof value === "string" && /^-?\d{1,20}$/.test(value);
}
