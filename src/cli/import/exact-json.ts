import type { JsonObject } from "@bufbuild/protobuf";
import { scanJson } from "../../event/json-scan.ts";
import { isObject } from "./cloudtrail-remainder.ts";

/**
 * Parses the text of one JSON object without losing anything: integers that a JavaScript number would round, and
 * numbers too large for one, become texts of exactly those digits; names given twice are an error.
 *
 * @throws SyntaxError saying what is wrong, without repeating the text
 */
export function parseExactJson(text: string): JsonObject {
	let value: unknown;
	try {
		value = MAY_ROUND.test(text) ? JSON.parse(text, keepDigits as Reviver) : JSON.parse(text);
	} catch (cause) {
		const position = /position \d+/.exec((cause as Error).message)?.[0];
		throw new SyntaxError(`is not valid JSON${position ? ` (at ${position})` : ""}`, { cause });
	}
	if (!isObject(value as JsonObject)) throw new SyntaxError("is not a JSON object");
	// JSON.parse keeps the last of them and says nothing.
	const [twice] = scanJson(text).duplicates;
	if (twice) throw new SyntaxError(`has a name twice: ${JSON.stringify(twice.join("."))}`);
	return value as JsonObject;
}

/** Long runs of digits and large exponents: anything else is exact, and needs no second look at every value. */
const MAY_ROUND = /\d{16}|[eE]\+?\d{2}/;

/** TypeScript does not know yet that a reviver is given the source text of the value. */
type Reviver = Parameters<typeof JSON.parse>[1];

function keepDigits(_key: string, value: unknown, context: { source?: string }): unknown {
	if (typeof value !== "number") return value;
	const rounded = !Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value));
	return rounded ? (context.source ?? value) : value;
}
