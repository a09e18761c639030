import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { LIMITS } from "../../event/limits.ts";

/**
 * What of a source record has not found a place in the event yet. Whoever takes a value puts it into the event;
 * whatever nobody took becomes metadata, under its own name. So nothing can get lost between the two, whatever fields
 * a record has.
 */
export class Remainder {
	readonly #record: JsonObject;

	constructor(record: JsonObject) {
		this.#record = structuredClone(record);
	}

	/** A text to copy; it stays for the metadata. */
	look(...path: string[]): string {
		const value = this.value(...path);
		return typeof value === "string" ? value : "";
	}

	value(...path: string[]): JsonValue | undefined {
		return member(this.#record, path);
	}

	/** A text for an identifier field of the event. What such a field cannot hold stays, and the answer is "". */
	takeId(...path: string[]): string {
		return this.#take(path, isId);
	}

	/** A text for a free-text field of at most `limitBytes`. What does not fit stays, and the answer is "". */
	takeText(limitBytes: number, ...path: string[]): string {
		return this.#take(path, (text) => isText(text, limitBytes));
	}

	/** Takes a value of any kind away. */
	drop(...path: string[]): void {
		const parents = path.slice(0, -1);
		const last = path.at(-1);
		const parent = member(this.#record, parents);
		if (!isObject(parent) || last === undefined) return;
		delete parent[last];
		// A parent emptied by taking goes as well; one that came empty says something and stays.
		if (parents.length > 0 && Object.keys(parent).length === 0) this.drop(...parents);
	}

	replace(value: JsonValue, ...path: string[]): void {
		const parent = member(this.#record, path.slice(0, -1));
		const last = path.at(-1);
		if (isObject(parent) && last !== undefined) parent[last] = value;
	}

	/** What nobody took. */
	rest(): JsonObject {
		return this.#record;
	}

	#take(path: string[], fits: (text: string) => boolean): string {
		const text = this.look(...path);
		if (text === "" || !fits(text)) return "";
		this.drop(...path);
		return text;
	}
}

/** Whether an identifier field of an event can hold this. */
export function isId(text: string): boolean {
	// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
	return text !== "" && isText(text, LIMITS.idBytes) && !/[\u0000-\u001f\u007f]/.test(text);
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(text: string, limitBytes: number): boolean {
	return text.isWellFormed() && !text.includes("\0") && Buffer.byteLength(text) <= limitBytes;
}

function member(value: JsonValue | undefined, path: string[]): JsonValue | undefined {
	let at: JsonValue | undefined = value;
	for (const name of path) {
		if (!isObject(at) || !Object.hasOwn(at, name)) return undefined;
		at = at[name];
	}
	return at;
}
