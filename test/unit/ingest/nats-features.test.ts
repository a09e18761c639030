import { expect, test } from "vitest";
import { canSyncFirst, shortcomingsOf } from "../../../src/ingest/nats-features.ts";

test.each([
	["2.9.10", false],
	["2.9.25-beta.1", false],
	["1.4.1", false],
	["2.10.0", true],
	["2.10.27", true],
	["2.15.1", true],
	["3.0.0", true],
	["v2.12.0-dev", true],
	["", true],
])("what a server lacks is told by its version: %s", (version, complete) => {
	expect(canSyncFirst(version)).toBe(complete);
	expect(shortcomingsOf(version).length > 0).toBe(!complete);
});
