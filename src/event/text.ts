/** The rules for text in events and in questions about them. Each gives what is wrong, or undefined; never the value. */

/** Identifiers: no control characters (Unicode's Cc: with C1, one of which begins escape sequences), at most `limit` bytes. */
export function faultOfId(value: string, limit: number): string | undefined {
	// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
	if (/[\u0000-\u001f\u007f-\u009f]/.test(value)) return "must not contain control characters";
	return faultOfSize(value, limit);
}

/** Text for people: anything but U+0000, at most `limit` bytes of UTF-8. */
export function faultOfText(value: string, limit: number): string | undefined {
	if (value.includes("\0")) return "must not contain U+0000";
	return faultOfSize(value, limit);
}

/** As much of a text as fits into `limit` bytes of UTF-8, in whole characters. */
export function cutText(value: string, limit: number): string {
	if (value.length * 3 <= limit) return value;
	return value.slice(0, new TextEncoder().encodeInto(value, new Uint8Array(limit)).read);
}

function faultOfSize(value: string, limit: number): string | undefined {
	if (!value.isWellFormed()) return "must be well-formed Unicode (it has a lone surrogate)";
	// A UTF-16 unit has 3 bytes at most in UTF-8: short strings need no counting.
	if (value.length * 3 > limit && Buffer.byteLength(value) > limit) return `must not be longer than ${limit} bytes`;
	return undefined;
}
