import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ApiKeyVerifier, type FindApiKey, type StoredApiKey } from "../../../src/auth/api-key-verifier.ts";
import { type ApiKey, formatApiKey, hashSecret, newApiKey } from "../../../src/auth/api-keys.ts";
import { Authenticator } from "../../../src/auth/authenticator.ts";
import { deriveKeys } from "../../../src/auth/secret.ts";

const keys = deriveKeys("a root secret of the tests, long enough");
const key = newApiKey();

beforeEach(() => {
	vi.useFakeTimers();
});
afterEach(() => {
	vi.useRealTimers();
});

/** An authenticator over keys in a map, and the ids it looked up. */
function setUp(stored = new Map([[key.id, storedFor(key)]])) {
	const lookedUp: string[] = [];
	const withKey = authenticating((id) => {
		lookedUp.push(id);
		return Promise.resolve(stored.get(id));
	});
	return { stored, lookedUp, withKey };
}

function authenticating(find: FindApiKey) {
	const authenticator = new Authenticator({ apiKeys: new ApiKeyVerifier(find, keys) });
	return (text: string) => authenticator.authenticate({ header: (name) => (name === "x-api-key" ? text : undefined) });
}

function storedFor(of: ApiKey): StoredApiKey {
	return {
		secretHash: hashSecret(keys, of),
		identity: of.id,
		name: "billing",
		role: "writer",
		tenants: "all",
		maskedUnits: [],
		expiresAt: undefined,
	};
}

describe("a key that exists", () => {
	test("is looked up once in a quarter of a minute, by any number of requests at once", async () => {
		const { withKey, lookedUp } = setUp();
		await Promise.all([withKey(formatApiKey(key)), withKey(formatApiKey(key))]);
		vi.advanceTimersByTime(14_000);
		expect(await withKey(formatApiKey(key))).toEqual({
			kind: "api_key",
			id: key.id,
			keyId: key.id,
			name: "billing",
			roles: new Set(["writer"]),
			tenants: "all",
			maskedUnits: new Set(),
			expiresAt: undefined,
		});
		expect(lookedUp).toHaveLength(1);
	});

	test("begins no call a quarter of a minute after it was taken away", async () => {
		const { withKey, stored } = setUp();
		await withKey(formatApiKey(key));
		stored.clear();
		vi.advanceTimersByTime(15_001);
		await expect(withKey(formatApiKey(key))).rejects.toMatchObject({ code: "unauthenticated" });
	});

	test("does not let another secret pass, looked up or remembered", async () => {
		const { withKey } = setUp();
		const forged = formatApiKey({ id: key.id, secret: newApiKey().secret });
		await expect(withKey(forged)).rejects.toMatchObject({ code: "unauthenticated" });
		await withKey(formatApiKey(key));
		await expect(withKey(forged)).rejects.toMatchObject({ code: "unauthenticated" });
	});
});

describe("a key that does not exist", () => {
	test("is remembered for some seconds, and works soon after it is made", async () => {
		const { withKey, stored, lookedUp } = setUp(new Map());
		const tries = [withKey(formatApiKey(key)), withKey(formatApiKey(key))];
		for (const result of await Promise.allSettled(tries)) expect(result.status).toBe("rejected");
		stored.set(key.id, storedFor(key));
		await expect(withKey(formatApiKey(key))).rejects.toMatchObject({ code: "unauthenticated" });
		expect(lookedUp).toHaveLength(1);
		vi.advanceTimersByTime(5_001);
		expect(await withKey(formatApiKey(key))).toMatchObject({ keyId: key.id });
	});

	test("in any number pushes no real one out", async () => {
		const { withKey, lookedUp } = setUp();
		await withKey(formatApiKey(key));
		for (let i = 0; i < 20_000; i += 1) await withKey(formatApiKey(newApiKey())).catch(() => {});
		lookedUp.length = 0;
		await withKey(formatApiKey(key));
		expect(lookedUp).toEqual([]);
	});
});

test("made-up keys cannot take all look-ups: beyond a bound they are told to come again", async () => {
	const withKey = authenticating(() => new Promise(() => {}));
	const attempt = () => withKey(formatApiKey(newApiKey()));
	for (let i = 0; i < 64; i += 1) void attempt();
	await expect(attempt()).rejects.toMatchObject({ code: "resource_exhausted", retryAfterMs: 500 });
});

test("made-up keys keep nobody out who was known before", async () => {
	const { stored, lookedUp } = setUp();
	let look = (id: string) => Promise.resolve(stored.get(id));
	const withAny = authenticating((id) => look(id));
	await withAny(formatApiKey(key));
	look = (id) => {
		lookedUp.push(id);
		return id === key.id ? Promise.resolve(stored.get(id)) : new Promise(() => {});
	};
	for (let i = 0; i < 64; i += 1) void withAny(formatApiKey(newApiKey()));
	vi.advanceTimersByTime(15_001);
	expect(await withAny(formatApiKey(key))).toMatchObject({ keyId: key.id });
	expect(lookedUp).toHaveLength(65);
	// Also when it turns out that the key is gone: from then on it is one of those that do not exist.
	stored.clear();
	vi.advanceTimersByTime(15_001);
	await expect(withAny(formatApiKey(key))).rejects.toMatchObject({ code: "unauthenticated" });
	vi.advanceTimersByTime(5_001);
	await expect(withAny(formatApiKey(key))).rejects.toMatchObject({ code: "resource_exhausted" });
});

test("a look-up that fails is not remembered", async () => {
	let failing = true;
	const withKey = authenticating(() => (failing ? Promise.reject(new Error("away")) : Promise.resolve(storedFor(key))));
	const attempt = () => withKey(formatApiKey(key));
	await expect(attempt()).rejects.toThrow("away");
	failing = false;
	expect(await attempt()).toMatchObject({ keyId: key.id });
});
