import type { JsonValue } from "@bufbuild/protobuf";
import type { Violation } from "../errors.ts";
import { elementPath, memberPath } from "./field-path.ts";
import { LIMITS } from "./limits.ts";

/** A JSON text in the form of RFC 8785: sorted keys, no white space, ECMAScript numbers and strings. */
export type Jcs = string;

/**
 * Writes a JSON value of foreign origin (a protobuf Struct) as RFC 8785 text. What that form cannot hold for ever is
 * reported, never repaired: U+0000, lone surrogates, NaN and ∞, integers beyond ±(2^53-1), and what exceeds the
 * limits of depth, count and key length.
 *
 * @param path where the value stands, for the violations
 * @returns the text, or "" after reporting violations
 */
export function encodeForeignJson(value: JsonValue, path: string, report: (violation: Violation) => void): Jcs {
	let nodes = 0;
	let refused = false;
	const refuse = (field: string, message: string) => {
		refused = true;
		report({ field, message });
	};
	const encode = (item: JsonValue, at: string, depth: number): Jcs => {
		nodes += 1;
		if (nodes > LIMITS.structNodes) return "";
		if (item === null || typeof item === "boolean") return String(item);
		if (typeof item === "number") return encodeNumber(item, at, refuse);
		if (typeof item === "string") return encodeString(item, at, refuse);
		if (depth > LIMITS.structDepth) {
			refuse(at, `is nested deeper than ${LIMITS.structDepth} levels`);
			return "";
		}
		if (Array.isArray(item))
			return `[${item.map((element, i) => encode(element, elementPath(at, i), depth + 1)).join(",")}]`;
		const members = Object.keys(item)
			.sort()
			.map((key) => {
				const member = memberPath(at, key);
				checkKey(key, member, refuse);
				return `${JSON.stringify(key)}:${encode(item[key] ?? null, member, depth + 1)}`;
			});
		return `{${members.join(",")}}`;
	};
	const text = encode(value, path, 1);
	if (nodes > LIMITS.structNodes) refuse(path, `has more than ${LIMITS.structNodes} values`);
	return refused ? "" : text;
}

type Refuse = (field: string, message: string) => void;

function encodeNumber(value: number, at: string, refuse: Refuse): Jcs {
	if (!Number.isFinite(value)) refuse(at, "must be a finite number");
	else if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
		refuse(at, "is an integer beyond ±(2^53-1), which JSON readers round: send it as a string");
	}
	return JSON.stringify(value);
}

function encodeString(value: string, at: string, refuse: Refuse): Jcs {
	if (!value.isWellFormed()) refuse(at, "must be well-formed Unicode (it has a lone surrogate)");
	else if (value.includes("\0")) refuse(at, "must not contain U+0000");
	return JSON.stringify(value);
}

function checkKey(key: string, at: string, refuse: Refuse): void {
	if (!key.isWellFormed() || key.includes("\0")) refuse(at, "has a key with U+0000 or a lone surrogate");
	else if (Buffer.byteLength(key) > LIMITS.structKeyBytes) {
		refuse(at, `has a key longer than ${LIMITS.structKeyBytes} bytes`);
	}
}

/**
 * Writes an object of our own as RFC 8785 text: members in the order given, which must be that of their names'
 * characters; absent ones (undefined) left out.
 */
export function encodeOwnJson(members: readonly (readonly [name: string, json: Jcs | undefined])[]): Jcs {
	let text = "";
	for (const [name, json] of members) {
		if (json !== undefined) text += `${text ? "," : ""}"${name}":${json}`;
	}
	return `{${text}}`;
}
