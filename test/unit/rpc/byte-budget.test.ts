import { expect, test } from "vitest";
import { ByteBudget } from "../../../src/rpc/byte-budget.ts";

test("bytes are taken while there is room, and can be taken again when they were given back", () => {
	const budget = new ByteBudget(100, 100);
	budget.take("a", 60);
	expect(() => budget.take("b", 41)).toThrow(
		expect.objectContaining({ code: "resource_exhausted", reason: "IN_FLIGHT_BYTES", retryAfterMs: 500 }),
	);
	budget.take("b", 40);
	budget.giveBack("a", 60);
	budget.take("c", 60);
	expect(() => budget.take("c", 1)).toThrow();
});

test("no key takes more than its share", () => {
	const budget = new ByteBudget(100, 25);
	budget.take("a", 20);
	expect(() => budget.take("a", 6)).toThrow();
	budget.take("a", 5);
	for (const key of ["b", "c", "d"]) budget.take(key, 25);
	budget.giveBack("a", 25);
	budget.take("a", 25);
});
