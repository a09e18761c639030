import { expect, test } from "vitest";
import { Batcher, type BatcherOptions } from "../../../src/ingest/batcher.ts";
import type { Appended, Write } from "../../../src/storage/append.ts";
import type { EventRow } from "../../../src/storage/row.ts";

/** A write of `events` rows of `bytes` each: the batcher looks at nothing else of them. */
function aWrite(events = 1, bytes = 100): Write {
	const rows = Array.from({ length: events }, () => ({ event: { bytes } }) as EventRow);
	return { rows, atomic: false };
}

const DONE: PromiseSettledResult<Appended> = {
	status: "fulfilled",
	value: { outcomes: [], deadLetters: [], newDeadLetters: [] },
};

/** A batcher whose flushes end when the test says so. */
function held(bounds: Partial<BatcherOptions> = {}) {
	const flushes: { writes: readonly Write[]; end: (results?: PromiseSettledResult<Appended>[]) => void }[] = [];
	const batcher = new Batcher({
		flush: (writes) =>
			new Promise((resolve) => {
				flushes.push({ writes, end: (results) => resolve(results ?? writes.map(() => DONE)) });
			}),
		flushEvents: 10,
		flushBytes: 10_000,
		waitingEvents: 20,
		waitingBytes: 100_000,
		...bounds,
	});
	return { batcher, flushes };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a lone write is flushed at once; what comes meanwhile shares the next flush", async () => {
	const { batcher, flushes } = held();
	const first = batcher.add(aWrite());
	expect(flushes).toHaveLength(1);
	const others = [batcher.add(aWrite()), batcher.add(aWrite()), batcher.add(aWrite())];
	expect(flushes).toHaveLength(1);
	flushes[0]?.end();
	await first;
	expect(flushes.map(({ writes }) => writes.length)).toEqual([1, 3]);
	flushes[1]?.end();
	await Promise.all(others);
});

test("a flush takes writes in order up to its bounds, and splits none", async () => {
	const { batcher, flushes } = held({ waitingEvents: 100 });
	const all = [1, 6, 6, 4, 12, 1].map((n) => batcher.add(aWrite(n)));
	for (let i = 0; i < 5; i += 1) {
		flushes[i]?.end();
		await settled();
	}
	const sizes = flushes.map(({ writes }) => writes.map(({ rows }) => rows.length));
	expect(sizes).toEqual([[1], [6], [6, 4], [12], [1]]);
	await Promise.all(all);
});

test("whoever comes when too much is waiting is turned away, and told when to come again", async () => {
	const { batcher, flushes } = held();
	const accepted = [batcher.add(aWrite(10)), batcher.add(aWrite(20))];
	await expect(batcher.add(aWrite(1))).rejects.toMatchObject({
		code: "resource_exhausted",
		retryAfterMs: expect.any(Number),
	});
	flushes[0]?.end();
	await settled();
	accepted.push(batcher.add(aWrite(1)));
	flushes[1]?.end();
	await settled();
	flushes[2]?.end();
	await Promise.all(accepted);
});

test("bytes are bounded as well as counts", async () => {
	const { batcher, flushes } = held();
	const first = batcher.add(aWrite());
	const second = batcher.add(aWrite(1, 90_000));
	await expect(batcher.add(aWrite(1, 20_000))).rejects.toMatchObject({ code: "resource_exhausted" });
	flushes[0]?.end();
	await settled();
	flushes[1]?.end();
	await Promise.all([first, second]);
});

test("each write of a flush gets its own answer, good or bad", async () => {
	const { batcher, flushes } = held();
	const first = batcher.add(aWrite());
	const second = batcher.add(aWrite());
	const third = batcher.add(aWrite());
	flushes[0]?.end();
	await first;
	flushes[1]?.end([{ status: "rejected", reason: new Error("only this one") }, DONE]);
	await expect(second).rejects.toThrow("only this one");
	await third;
});

test("closing refuses new writes and decides the accepted ones", async () => {
	const { batcher, flushes } = held();
	const accepted = [batcher.add(aWrite()), batcher.add(aWrite())];
	const closing = batcher.close();
	await expect(batcher.add(aWrite())).rejects.toMatchObject({ code: "unavailable" });
	flushes[0]?.end();
	await settled();
	flushes[1]?.end();
	await closing;
	await Promise.all(accepted);
});
