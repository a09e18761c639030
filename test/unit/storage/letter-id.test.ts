import { expect, test } from "vitest";
import { letterId, parseLetterId } from "../../../src/storage/dead-letters.ts";

test("a letter's id gives its key back, whatever the key", () => {
	for (const [created, streamSeq, position] of [
		["2026-01-31T12:00:00.123Z", 26n, 0],
		["1970-01-01T00:00:00.001Z", 1n, 999],
		["2999-12-31T23:59:59.999Z", 2n ** 63n - 1n, 1],
	] as const) {
		const key = { streamCreated: new Date(created), streamSeq, position };
		expect(parseLetterId(letterId(key))).toEqual(key);
	}
	expect(letterId({ streamCreated: new Date("2026-01-31T12:00:00.123Z"), streamSeq: 26n, position: 3 })).toBe(
		"ml29f9ff-26-3",
	);
});

test.each([
	"",
	"1",
	"1-1",
	"1-1-0-0",
	"-1-0",
	"01-1-0",
	"1-01-0",
	"1-1-00",
	"A-1-0",
	"1-1--1",
	" 1-1-0",
	"1-1-0\n",
	"1-9223372036854775808-0",
	"1-99999999999999999999-0",
	"zzzzzzzzzz-1-0",
	"1-1-9999999999",
	"é-1-0",
])("%j is no letter's id", (id) => {
	expect(parseLetterId(id)).toBeUndefined();
});
