import { describe, expect, test } from "vitest";
import { readRequestId, startCallTrace, startMessageTrace, traceIdOf } from "../../src/trace.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

const traceId = (traceparent?: string) =>
	traceIdOf(startCallTrace((name) => (name === "traceparent" ? traceparent : undefined), "r"));

describe("traceparent, after W3C Trace Context", () => {
	test.each([
		["as it is mostly", `00-${TRACE}-${SPAN}-01`],
		["not sampled", `00-${TRACE}-${SPAN}-00`],
		["with flags we do not know", `00-${TRACE}-${SPAN}-ff`],
		["of a later version", `01-${TRACE}-${SPAN}-01`],
		["of a later version, with more", `cc-${TRACE}-${SPAN}-01-what-the-future-brings`],
		["with space around it", ` 00-${TRACE}-${SPAN}-01 `],
	])("%s is taken", (_, traceparent) => {
		expect(traceId(traceparent)).toBe(TRACE);
	});

	test.each([
		["absent", undefined],
		["empty", ""],
		["in capitals", `00-${TRACE.toUpperCase()}-${SPAN}-01`],
		["of no trace", `00-${"0".repeat(32)}-${SPAN}-01`],
		["of no span", `00-${TRACE}-${"0".repeat(16)}-01`],
		["of the version that is none", `ff-${TRACE}-${SPAN}-01`],
		["of version 00, with more", `00-${TRACE}-${SPAN}-01-more`],
		["with more right behind", `01-${TRACE}-${SPAN}-01more`],
		["cut off", `00-${TRACE}-${SPAN}`],
		["given twice", `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`],
		["no hexadecimal", `00-${"g".repeat(32)}-${SPAN}-01`],
	])("%s is as good as none", (_, traceparent) => {
		expect(traceId(traceparent)).toBeUndefined();
	});

	test("tracestate goes with it, and no further than what it may hold", () => {
		const stateOf = (tracestate: string) => {
			const headers: Record<string, string> = { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate };
			return startCallTrace((name) => headers[name], "r")
				.span.spanContext()
				.traceState?.serialize();
		};
		expect(stateOf("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")).toBe("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
		expect(stateOf("not a state")).toBe("");
	});
});

test("a request id is repeated if it is fit to be", () => {
	expect(readRequestId("abc-1.2:3/4+5=")).toBe("abc-1.2:3/4+5=");
	for (const unfit of [undefined, "", "a b", "a\nb", '"', "x".repeat(129)])
		expect(readRequestId(unfit)).toBeUndefined();
});

test("a message without trace and request id has nothing to carry", () => {
	expect(startMessageTrace(() => undefined, {})).toBeUndefined();
	expect(startMessageTrace((name) => (name === "x-request-id" ? "mine" : undefined), {})?.requestId).toBe("mine");
	expect(startMessageTrace((name) => (name === "traceparent" ? "malformed" : undefined), {})).toBeUndefined();
});
