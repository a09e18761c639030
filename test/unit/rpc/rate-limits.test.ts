import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { NOTHING_MASKED, type Principal } from "../../../src/auth/principal.ts";
import { EventSchema } from "../../../src/gen/audit/v1/event_pb.ts";
import { HELD_BACK_MS, RateLimits } from "../../../src/rpc/rate-limits.ts";

beforeEach(() => {
	vi.useFakeTimers();
});
afterEach(() => {
	vi.useRealTimers();
});

const principal: Principal = {
	kind: "api_key",
	id: "0123456789ab",
	keyId: "0123456789ab",
	name: "billing",
	roles: new Set(["writer"]),
	tenants: "all",
	maskedUnits: NOTHING_MASKED,
	expiresAt: undefined,
};
const none = Number.POSITIVE_INFINITY;
const events = Array.from({ length: 20 }, () => create(EventSchema, { tenantId: "acme" }));

test("a refusal is held back, so that whoever heeds none is slowed by it; what passes is not", async () => {
	const rates = new RateLimits({
		keyEvents: 10,
		keyBytes: none,
		tenantEvents: none,
		tenantBytes: none,
		keyReads: none,
	});
	const call = { principal };
	await rates.admitEvents(events, call);
	let refused: unknown;
	const second = rates.admitEvents(events, call).catch((error: unknown) => (refused = error));
	await vi.advanceTimersByTimeAsync(HELD_BACK_MS - 1);
	expect(refused).toBeUndefined();
	await vi.advanceTimersByTimeAsync(1);
	await second;
	// It was two seconds' worth: what is left of them when the refusal comes.
	expect(refused).toMatchObject({ code: "resource_exhausted", retryAfterMs: 2_000 - HELD_BACK_MS });
});
