import { expect, test } from "vitest";
import {
	demoApiKey,
	formatApiKey,
	hashSecret,
	isSecretOf,
	newApiKey,
	parseApiKey,
} from "../../../src/auth/api-keys.ts";
import { deriveKeys } from "../../../src/auth/secret.ts";

const keys = deriveKeys("a root secret of the tests, long enough");
const otherKeys = deriveKeys("another root secret, long enough as well");

test("a key's text is read back, and nothing else is", () => {
	const key = newApiKey();
	const text = formatApiKey(key);
	expect(text).toMatch(/^al_[0-9a-f]{12}_[0-9a-f]{64}$/);
	expect(parseApiKey(text)).toEqual(key);
	for (const wrong of [
		"",
		"al__",
		` ${text}`,
		`${text}\n`,
		text.toUpperCase(),
		text.slice(0, -1),
		text.replace("al_", ""),
	]) {
		expect(parseApiKey(wrong)).toBeUndefined();
	}
});

test("new keys differ, demo keys are the same for the same name and root secret", () => {
	expect(newApiKey()).not.toEqual(newApiKey());
	expect(demoApiKey(keys, "acme")).toEqual(demoApiKey(keys, "acme"));
	expect(demoApiKey(keys, "acme")).not.toEqual(demoApiKey(keys, "globex"));
	expect(demoApiKey(keys, "acme")).not.toEqual(demoApiKey(otherKeys, "acme"));
	expect(parseApiKey(formatApiKey(demoApiKey(keys, "acme")))).toEqual(demoApiKey(keys, "acme"));
});

test("only the secret itself matches its hash, and only with the service's own key", () => {
	const key = newApiKey();
	const hash = hashSecret(keys, key);
	expect(isSecretOf(keys, key, hash)).toBe(true);
	expect(isSecretOf(keys, { ...key, secret: newApiKey().secret }, hash)).toBe(false);
	expect(isSecretOf(otherKeys, key, hash)).toBe(false);
	expect(isSecretOf(keys, key, hash.subarray(1))).toBe(false);
	expect(hash.toString("hex")).not.toContain(key.secret);
});
