import { describe, expect, test } from "vitest";
import { takeTimeout } from "../../../src/rpc/deadline.ts";
import { DOOR_LIMITS, deadlineOf } from "../../../src/rpc/limits.ts";

describe("every call has a deadline, none later than the service's", () => {
	test.each([
		[undefined, 15_000],
		["10", 10],
		["15000", 15_000],
		["15001", 15_000],
		["9999999999", 15_000],
	])("Connect: %s becomes %i", (timeout, expected) => {
		const header = new Headers(timeout === undefined ? {} : { "connect-timeout-ms": timeout });
		expect(takeTimeout(header, 15_000)).toBe(expected);
		expect(header.get("connect-timeout-ms")).toBeNull();
	});

	test.each([
		[undefined, 15_000],
		["100m", 100],
		["20S", 15_000],
		["14S", 14_000],
		["1H", 15_000],
		["1M", 15_000],
		["99999999u", 15_000],
		["5000u", 5],
		["1000000n", 1],
	])("gRPC: %s becomes %i", (timeout, expected) => {
		for (const type of ["application/grpc", "application/grpc+proto", "application/grpc-web+json"]) {
			const header = new Headers({ "content-type": type, ...(timeout !== undefined && { "grpc-timeout": timeout }) });
			expect(takeTimeout(header, 15_000)).toBeCloseTo(expected);
			expect(header.get("grpc-timeout")).toBeNull();
		}
	});

	test.each(["soon", "-1", "1x", "123456789S"])("%s, which is none, is left for Connect to refuse", (timeout) => {
		const connect = new Headers({ "connect-timeout-ms": timeout });
		expect(takeTimeout(connect, 15_000)).toBe(15_000);
		expect(connect.get("connect-timeout-ms")).toBe(timeout);
		const grpc = new Headers({ "content-type": "application/grpc", "grpc-timeout": timeout });
		expect(takeTimeout(grpc, 15_000)).toBe(15_000);
		expect(grpc.get("grpc-timeout")).toBe(timeout);
	});
});

test("a graceful end is over before `docker stop` kills, after 10 seconds", () => {
	expect(DOOR_LIMITS.drainMs).toBeLessThan(9_000);
});

test("writes have 15 seconds, reads 30", () => {
	const rpcs = ["writeEvent", "batchWrite", "query", "getEvent"];
	expect(rpcs.map((rpc) => deadlineOf(rpc, DOOR_LIMITS))).toEqual([15_000, 15_000, 30_000, 30_000]);
});
