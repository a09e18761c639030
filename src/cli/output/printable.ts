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

/** Text with its line breaks and tabs, and with what else could steer a terminal written as \uXXXX: nothing is lost. */
export function spelledOut(text: string): string {
	return text.replace(STEERING, (character) =>
		character === "\n" || character === "\t"
			? character
			: `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
}

/** A value as JSON: the same value for every reader, and it cannot steer a terminal. */
export function jsonText(value: unknown, indent = 0): string {
	// Outside of strings there are no such characters but the line breaks of the indentation; in them those are escaped.
	return spelledOut(JSON.stringify(value, undefined, indent));
}
