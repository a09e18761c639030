import { pino } from "pino";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Principal } from "../../../src/auth/principal.ts";
import type { Call } from "../../../src/rpc/call.ts";
import { CallLog } from "../../../src/rpc/call-log.ts";
import { startCallTrace } from "../../../src/trace.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

interface Line {
	readonly msg: string;
	readonly address?: string;
	readonly reason: string;
	readonly refused?: number;
}

function startLog() {
	const lines: Line[] = [];
	const log = new CallLog(pino({ level: "info", base: null }, { write: (line) => void lines.push(JSON.parse(line)) }));
	const end = (address: string, failure: { code: string; reason: string }, principal?: Principal) => {
		const trace = startCallTrace(() => undefined, "r");
		const credentials = { header: () => undefined };
		const call: Call = { requestId: "r", trace, address, credentials, startedAt: 0, batchIds: new Set() };
		if (principal) call.principal = principal;
		log.end(call, failure);
	};
	return { log, lines, end, told: () => lines.reduce((sum, { refused = 1 }) => sum + refused, 0) };
}

const BAD_KEY = { code: "unauthenticated", reason: "UNAUTHENTICATED" };
const BAD_ROLE = { code: "permission_denied", reason: "ROLE_NOT_PERMITTED" };

test("of one address and reason the first are told of singly, the others counted once a minute", () => {
	const { lines, end, told } = startLog();
	for (let i = 0; i < 100; i++) end("192.0.2.1", BAD_KEY);
	expect(lines).toHaveLength(5);
	end("192.0.2.2", BAD_KEY);
	end("192.0.2.1", BAD_ROLE);
	expect(lines.slice(5)).toMatchObject([
		{ msg: "call failed", address: "192.0.2.2" },
		{ msg: "call failed", address: "192.0.2.1", reason: "ROLE_NOT_PERMITTED" },
	]);
	vi.advanceTimersByTime(60_000);
	expect(lines.slice(7)).toMatchObject([{ msg: "calls refused", address: "192.0.2.1", reason: "UNAUTHENTICATED" }]);
	expect(told()).toBe(102);
	// And from the beginning.
	end("192.0.2.1", BAD_KEY);
	expect(lines).toHaveLength(9);
	vi.advanceTimersByTime(120_000);
	expect(lines).toHaveLength(9);
});

test("however many addresses there are, only so many are told apart, and none is left out of the counts", () => {
	const { log, lines, end, told } = startLog();
	for (let i = 0; i < 10_000; i++) end(`10.0.${i >> 8}.${i & 255}`, BAD_KEY);
	expect(lines).toHaveLength(1_005);
	// Another reason, when there is no room for any more.
	end("192.0.2.1", BAD_ROLE);
	expect(lines).toHaveLength(1_006);
	log.close();
	expect(lines).toHaveLength(1_007);
	expect(lines.at(-1)).toMatchObject({ msg: "calls refused", refused: 8_995 });
	expect(lines.at(-1)).not.toHaveProperty("address");
	expect(told()).toBe(10_001);
});

test("a network's addresses are one", () => {
	const { lines, end } = startLog();
	for (let i = 0; i < 100; i++) end(`2001:db8::${i}`, BAD_KEY);
	expect(lines).toHaveLength(5);
});

const FAULT = { code: "internal", reason: "INTERNAL" };
const AWAY = { code: "unavailable", reason: "STORAGE_UNAVAILABLE" };

test("what fails through us for somebody who is known is told of every time", () => {
	const { lines, end } = startLog();
	const jane: Principal = {
		kind: "api_key",
		id: "0123456789ab",
		keyId: "0123456789ab",
		name: "jane",
		roles: new Set(["reader"]),
		tenants: "all",
		maskedUnits: new Set(),
		expiresAt: undefined,
	};
	for (let i = 0; i < 50; i++) for (const failure of [FAULT, AWAY]) end("192.0.2.1", failure, jane);
	expect(lines).toHaveLength(100);
});

test("what fails through us for strangers is counted, too: they can ask for it as often as they want", () => {
	const { log, lines, end, told } = startLog();
	for (let i = 0; i < 50; i++) for (const failure of [FAULT, AWAY]) end("192.0.2.1", failure);
	expect(lines).toHaveLength(10);
	expect(lines.slice(0, 2)).toMatchObject([{ level: 50 }, { level: 40 }]);
	log.close();
	expect(lines.slice(10)).toMatchObject([
		{ msg: "calls refused", reason: "INTERNAL", refused: 45 },
		{ msg: "calls refused", reason: "STORAGE_UNAVAILABLE", refused: 45 },
	]);
	expect(told()).toBe(100);
});
