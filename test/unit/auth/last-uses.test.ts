import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { LastUses, type Uses } from "../../../src/auth/last-uses.ts";
import { createLogger } from "../../../src/logger.ts";

beforeEach(() => {
	vi.useFakeTimers({ now: 1_000_000 });
});
afterEach(() => {
	vi.useRealTimers();
});

/** What was written, one entry for each statement. */
function setUp(write: (uses: Uses) => Promise<void> = () => Promise.resolve()) {
	const written: [string, number][][] = [];
	const uses = new LastUses({
		write: (these) => {
			written.push([...these]);
			return write(these);
		},
		logger: createLogger("silent"),
	});
	return { uses, written };
}

test("however often keys are used, once a minute one statement tells of all of them", async () => {
	const { uses, written } = setUp();
	for (let second = 0; second < 59; second += 1) {
		for (let i = 0; i < 100; i += 1) for (const id of ["a", "b", "c"]) uses.note(id);
		await vi.advanceTimersByTimeAsync(1_000);
	}
	expect(written).toEqual([]);
	await vi.advanceTimersByTimeAsync(1_000);
	const last = 1_000_000 + 58_000;
	expect(written).toEqual([
		[
			["a", last],
			["b", last],
			["c", last],
		],
	]);
	// Nothing was used, so nothing is written.
	await vi.advanceTimersByTimeAsync(600_000);
	expect(written).toHaveLength(1);
	await uses.close();
});

test("what is not yet written is written at the end", async () => {
	const { uses, written } = setUp();
	uses.note("a");
	await uses.close();
	expect(written).toEqual([[["a", 1_000_000]]]);
});

test("what could not be written is written the next time, with what came meanwhile", async () => {
	let away = true;
	const { uses, written } = setUp(() => (away ? Promise.reject(new Error("away")) : Promise.resolve()));
	uses.note("a");
	uses.note("b");
	await vi.advanceTimersByTimeAsync(60_000);
	uses.note("b");
	away = false;
	await vi.advanceTimersByTimeAsync(60_000);
	expect(written.at(-1)).toEqual([
		["a", 1_000_000],
		["b", 1_060_000],
	]);
	await uses.close();
	expect(written).toHaveLength(2);
});

test("a service whose database is away ends all the same", async () => {
	const { uses } = setUp(() => Promise.reject(new Error("away")));
	uses.note("a");
	await expect(uses.close()).resolves.toBeUndefined();
});

test("no more than so many keys are remembered at a time", async () => {
	const { uses, written } = setUp();
	for (let i = 0; i < 20_000; i += 1) uses.note(`key ${i}`);
	await uses.close();
	expect(written[0]).toHaveLength(10_000);
});
