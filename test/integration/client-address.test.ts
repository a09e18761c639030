import { connect as connectHttp2 } from "node:http2";
import { afterEach, beforeAll, expect, test } from "vitest";
import { parseNetworks } from "../../src/rpc/network-settings.ts";
import { startDoors } from "../support/rpc-service.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, type TestDatabase, waitFor } from "../support/services.ts";

let database: TestDatabase;
const closers: (() => unknown)[] = [];

beforeAll(async () => {
	database = await createTestDatabase();
	return () => database.drop();
});
afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

/** Doors where an address has one call, and somebody who holds it. */
async function doorsHeldBy(headers: Record<string, string>, trusted: string) {
	const doors = await startDoors({
		readiness: () => new Promise(() => {}),
		limits: { callsPerAddress: 1, drainMs: 50 },
		...(trusted !== "" && { trustedProxies: parseNetworks(trusted) }),
	});
	closers.push(() => doors.close());
	const session = connectHttp2(doors.httpUrl).on("error", () => {});
	closers.push(() => session.destroy());
	session.request({ ":path": "/readyz", ...headers }).on("error", () => {});
	await new Promise<void>((resolve) => session.ping(() => resolve()));
	return async (own: Record<string, string>) => (await fetch(`${doors.httpUrl}/livez`, { headers: own })).status;
}

test.each(["", "192.0.2.0/24"])(
	"who is no trusted proxy (%j) gets no other share of calls by its headers",
	async (trusted) => {
		const ask = await doorsHeldBy({}, trusted);
		expect(await ask({})).toBe(429);
		expect(await ask({ "x-forwarded-for": "203.0.113.5" })).toBe(429);
		expect(await ask({ forwarded: "for=203.0.113.5" })).toBe(429);
	},
);

test.each([
	["x-forwarded-for", "203.0.113.5", "203.0.113.6"],
	["x-forwarded-for", "203.0.113.5, 10.0.0.3", "203.0.113.6:80, 10.0.0.4"],
	["forwarded", 'for="[2001:db8:0:1::5]:80";proto=https, for=10.0.0.3', 'for="[2001:db8:0:2::5]:80"'],
])("the clients of a trusted proxy have shares of their own: %s: %s and %s", async (name, one, other) => {
	const ask = await doorsHeldBy({ [name]: one }, "127.0.0.1, 10.0.0.0/8");
	expect(await ask({ [name]: one })).toBe(429);
	expect(await ask({ [name]: `6.6.6.6, ${one}` })).toBe(429);
	expect(await ask({ [name]: other })).toBe(200);
	// The proxy itself.
	expect(await ask({})).toBe(200);
});

test("the log names the client that AUDIT_TRUSTED_PROXIES lets it know", async () => {
	const addressIn = async (proxies: string) => {
		const service = await startService({
			DATABASE_URL: database.url,
			...(proxies !== "" && { AUDIT_TRUSTED_PROXIES: proxies }),
		});
		const headers = { "x-forwarded-for": "203.0.113.5", "x-request-id": "mine" };
		await fetch(`${service.httpUrl}/v1/audit/events`, { headers });
		const line = await waitFor(() => service.stdout.split("\n").find((text) => text.includes('"request_id":"mine"')));
		await service.stop();
		return (JSON.parse(line) as { address: string }).address;
	};
	expect(await addressIn("")).toBe("127.0.0.1");
	expect(await addressIn("10.0.0.0/8")).toBe("127.0.0.1");
	expect(await addressIn("10.0.0.0/8, 127.0.0.0/8")).toBe("203.0.113.5");
});
