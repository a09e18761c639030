import { expect, test } from "vitest";
import { Rate } from "../../../src/rpc/rate.ts";

test("two seconds' worth passes at once, then so much a second, and the time to wait is the true one", () => {
	const rate = new Rate(10);
	for (let i = 0; i < 20; i++) {
		expect(rate.waitFor("a", 1, 5_000)).toBe(0);
		rate.take("a", 1, 5_000);
	}
	expect(rate.waitFor("a", 1, 5_000)).toBe(100);
	expect(rate.waitFor("a", 15, 5_000)).toBe(1_500);
	expect(rate.waitFor("a", 1, 5_099)).toBe(1);
	expect(rate.waitFor("a", 1, 5_100)).toBe(0);
	expect(rate.waitFor("b", 20, 5_000)).toBe(0);
	// Nothing but time gives anything back, and no more than a full bucket.
	expect(rate.waitFor("a", 20, 6_999)).toBe(1);
	expect(rate.waitFor("a", 20, 100_000)).toBe(0);
	rate.take("a", 20, 100_000);
	expect(rate.waitFor("a", 1, 100_000)).toBe(100);
});

test("more than a full bucket passes from a full one, and is paid back", () => {
	const rate = new Rate(10);
	expect(rate.waitFor("a", 1_000, 0)).toBe(0);
	rate.take("a", 1, 0);
	expect(rate.waitFor("a", 1_000, 0)).toBe(100);
	rate.take("a", 1_000, 100);
	expect(rate.waitFor("a", 1, 100)).toBe(98_100);
	expect(rate.waitFor("a", 1, 98_200)).toBe(0);
});

test("without a limit nobody waits, and nobody is remembered", () => {
	const rate = new Rate(Number.POSITIVE_INFINITY);
	for (let i = 0; i < 1_000; i++) {
		expect(rate.waitFor("a", 1e9, 0)).toBe(0);
		rate.take("a", 1e9, 0);
	}
	expect(rate.size).toBe(0);
});

test("who has been quiet is forgotten, also behind one who owes much", () => {
	const rate = new Rate(10);
	rate.take("debtor", 1e6, 0);
	for (let i = 0; i < 10_000; i++) rate.take(`holder ${i}`, 1, i * 10);
	// Each is full again after 100 ms: ten others.
	expect(rate.size).toBeLessThan(50);
	expect(rate.waitFor("debtor", 1, 100_000)).toBeGreaterThan(1e7);
});
