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
	expect(text).toMatch(/^al_[0-9a-f]{12}_[0-9a-f]{72}$/);
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

test("a key in which one character is another is none: its checksum tells, without a look-up", () => {
	const text = formatApiKey(newApiKey());
	for (let i = 0; i < text.length; i += 1) {
		const other = text[i] === "0" ? "1" : "0";
		expect(parseApiKey(text.slice(0, i) + other + text.slice(i + 1)), `character ${i}`).toBeUndefined();
	}
	// A key as they were before there were checksums.
	expect(parseApiKey(text.slice(0, -8))).toBeUndefined();
	// Worked out by other means: `printf %s al_0123…  | gzip -c | tail -c8 | od -An -tx4 -N4`.
	expect(formatApiKey({ id: "0123456789ab", secret: "0f".repeat(32) })).toBe(
		`al_0123456789ab_${"0f".repeat(32)}820515bb`,
	);
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
