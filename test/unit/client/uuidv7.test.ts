import { expect, test } from "vitest";
import { createUuidV7Source } from "../../../src/client/uuidv7.ts";

test("ids are UUIDv7s of their millisecond", () => {
	const newId = createUuidV7Source();
	for (const millis of [0, 1, 1_769_860_800_123, 2 ** 48 - 1]) {
		const id = newId(millis);
		expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
		expect(Number.parseInt(id.replace("-", "").slice(0, 12), 16)).toBe(millis);
	}
});

test("ids of one millisecond sort in the order they were made, and differ", () => {
	const newId = createUuidV7Source();
	const ids = Array.from({ length: 2_000 }, () => newId(1_769_860_800_123));
	expect(ids.toSorted()).toEqual(ids);
	const more = Array.from({ length: 20_000 }, () => newId(1_769_860_800_123));
	expect(new Set([...ids, ...more]).size).toBe(22_000);
});
