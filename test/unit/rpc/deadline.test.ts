import { describe, expect, test } from "vitest";
import { boundDeadline, deadlineOf } from "../../../src/rpc/deadline.ts";

const bounded = (headers: Record<string, string>) => {
	const header = new Headers(headers);
	boundDeadline(header, 15_000);
	return header;
};

describe("every call has a deadline, none later than the service's", () => {
	test.each([
		[{}, "15000"],
		[{ "connect-timeout-ms": "10" }, "10"],
		[{ "connect-timeout-ms": "15000" }, "15000"],
		[{ "connect-timeout-ms": "15001" }, "15000"],
		[{ "connect-timeout-ms": "9999999999" }, "15000"],
		[{ "connect-timeout-ms": "soon" }, "soon"],
		[{ "connect-timeout-ms": "-1" }, "-1"],
	])("Connect: %j becomes %s", (headers, expected) => {
		expect(bounded(headers).get("connect-timeout-ms")).toBe(expected);
	});

	test.each([
		[undefined, "15000m"],
		["100m", "100m"],
		["20S", "15000m"],
		["14S", "14S"],
		["1H", "15000m"],
		["1M", "15000m"],
		["99999999u", "15000m"],
		["99999999n", "99999999n"],
		["1x", "1x"],
		["123456789S", "123456789S"],
	])("gRPC: %s becomes %s", (timeout, expected) => {
		for (const type of ["application/grpc", "application/grpc+proto", "application/grpc-web+json"]) {
			const header = bounded({ "content-type": type, ...(timeout !== undefined && { "grpc-timeout": timeout }) });
			expect(header.get("grpc-timeout")).toBe(expected);
			expect(header.get("connect-timeout-ms")).toBeNull();
		}
	});
});

test("writes have 15 seconds, reads 30", () => {
	expect(["writeEvent", "batchWrite", "query", "getEvent"].map(deadlineOf)).toEqual([15_000, 15_000, 30_000, 30_000]);
});
