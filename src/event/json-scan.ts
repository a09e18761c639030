/** Where something is in a JSON text: names and indexes from the top. */
export type JsonPath = readonly (string | number)[];

export interface JsonScan {
	/** Members whose name the same object has had before: JSON.parse silently keeps the last. */
	readonly duplicates: readonly JsonPath[];
	/** The text of each object or list directly in the list that is the top object's member `events`. */
	readonly events: readonly string[];
}

/** Bounds the work a hostile text can cause: many duplicates, each very deep. */
const MAX_DUPLICATES = 100;
const MAX_STEPS = 40;

interface Open {
	readonly start: number;
	/** The names seen so far; undefined: a list. */
	readonly names: Set<string> | undefined;
	/** The name or index of the value being read. */
	at: string | number;
}

/**
 * Finds what JSON.parse does not tell.
 *
 * @param text a text that JSON.parse accepts; with any other the result means nothing
 */
export function scanJson(text: string): JsonScan {
	const duplicates: JsonPath[] = [];
	const events: string[] = [];
	const stack: Open[] = [];
	let expectName = false;
	for (let i = 0; i < text.length; i += 1) {
		const top = stack.at(-1);
		const character = text[i];
		if (character === "{" || character === "[") {
			stack.push({ start: i, names: character === "{" ? new Set() : undefined, at: character === "{" ? "" : 0 });
			expectName = character === "{";
		} else if (character === "}" || character === "]") {
			stack.pop();
			expectName = false;
			const inEvents = stack.length === 2 && stack[0]?.at === "events" && !stack[1]?.names;
			if (top && inEvents) events.push(text.slice(top.start, i + 1));
		} else if (character === "," && top) {
			if (typeof top.at === "number") top.at += 1;
			else expectName = true;
		} else if (character === '"') {
			const end = endOfString(text, i);
			if (expectName && top?.names) {
				const name = JSON.parse(text.slice(i, end + 1)) as string;
				top.at = name;
				if (top.names.has(name) && duplicates.length < MAX_DUPLICATES) {
					duplicates.push(stack.slice(0, MAX_STEPS).map(({ at }) => at));
				}
				top.names.add(name);
			}
			expectName = false;
			i = end;
		}
	}
	return { duplicates, events };
}

/** The place of the quotation mark that ends the string beginning at `start`. */
function endOfString(text: string, start: number): number {
	let i = start + 1;
	while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
	return i;
}
