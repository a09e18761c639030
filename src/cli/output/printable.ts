/**
 * What may not reach a terminal from a stored event: control characters (ESC and its 8-bit forms begin commands), line
 * breaks of any kind, and what reverses or hides the reading order.
 */
const STEERING = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

/** Text for one line of a terminal. What callers sent must not move the cursor, change colours or reverse the text. */
export function printable(text: string): string {
	return text.replace(STEERING, "\ufffd");
}

/** The same for text that has lines of its own. */
export function printableLines(text: string): string {
	return text.split("\n").map(printable).join("\n");
}

/** A value as JSON: the same value for every reader, with what could steer a terminal written as \uXXXX. */
export function jsonText(value: unknown, indent = 0): string {
	// The line breaks of the indentation are the only such characters outside of strings.
	return JSON.stringify(value, undefined, indent).replace(STEERING, (character) =>
		character === "\n" ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
}
