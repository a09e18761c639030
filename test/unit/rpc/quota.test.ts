import { expect, test } from "vitest";
import { Quota } from "../../../src/rpc/quota.ts";

test("what is taken is missing until it is given back", () => {
	const quota = new Quota(100, 100);
	expect(quota.take("a", 60)).toBe(true);
	expect(quota.take("b", 41)).toBe(false);
	expect(quota.take("b", 40)).toBe(true);
	quota.giveBack("a", 60);
	expect(quota.take("b", 60)).toBe(true);
});

test("nobody holds more than a share", () => {
	const quota = new Quota(100, 25);
	expect(quota.take("a", 20)).toBe(true);
	expect(quota.take("a", 6)).toBe(false);
	expect(quota.take("b", 25)).toBe(true);
	quota.giveBack("a", 20);
	expect(quota.take("a", 25)).toBe(true);
});

test("who waits is served in turn, as soon as there is room", async () => {
	const quota = new Quota(100, 50);
	const served: string[] = [];
	const wait = (name: string, holder: string, amount: number) =>
		quota.takeLater(holder, amount).then(() => served.push(name));
	await Promise.all([wait("a1", "a", 50), wait("b1", "b", 30)]);
	const later = [wait("a2", "a", 50), wait("a3", "a", 10), wait("c1", "c", 20)];
	// c has room beside a, which has its share.
	await later[2];
	expect(served).toEqual(["a1", "b1", "c1"]);
	quota.giveBack("a", 50);
	await later[0];
	expect(quota.take("a", 1)).toBe(false);
	quota.giveBack("a", 50);
	await later[1];
	expect(served).toEqual(["a1", "b1", "c1", "a2", "a3"]);
});

test("who no longer waits gets nothing, and is not kept", async () => {
	const quota = new Quota(100, 50);
	await quota.takeLater("a", 50);
	const leaving = new AbortController();
	const waiting = quota.takeLater("a", 20, leaving.signal);
	leaving.abort();
	expect(await waiting).toBe(false);
	quota.giveBack("a", 50);
	expect(quota.taken).toBe(0);
	expect(await quota.takeLater("a", 50, leaving.signal)).toBe(false);
	expect(quota.taken).toBe(0);
});
