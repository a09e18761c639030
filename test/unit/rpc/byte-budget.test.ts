import { expect, test } from "vitest";
import { ByteBudget } from "../../../src/rpc/byte-budget.ts";

async function* chunks(...sizes: number[]): AsyncIterable<Uint8Array> {
	for (const size of sizes) yield new Uint8Array(size);
}

async function sizeOf(body: AsyncIterable<Uint8Array>): Promise<number> {
	let size = 0;
	for await (const chunk of body) size += chunk.length;
	return size;
}

test("bodies pass while there is room, and the room comes back at the end of a call", async () => {
	const budget = new ByteBudget(100);
	const first = budget.meter(chunks(40, 20));
	expect(await sizeOf(first.body)).toBe(60);
	const second = budget.meter(chunks(30, 11));
	await expect(sizeOf(second.body)).rejects.toMatchObject({ code: "resource_exhausted", retryAfterMs: 500 });
	second.release();
	first.release();
	first.release();
	const third = budget.meter(chunks(100));
	expect(await sizeOf(third.body)).toBe(100);
	await expect(sizeOf(budget.meter(chunks(1)).body)).rejects.toMatchObject({ reason: "IN_FLIGHT_BYTES" });
});
