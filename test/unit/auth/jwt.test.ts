import { createHmac, type KeyObject, randomUUID, sign } from "node:crypto";
import { base64url, CompactEncrypt, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import { describe, expect, test, vi } from "vitest";
import { isJwt, JwtVerifier } from "../../../src/auth/jwt.ts";
import { type JwtSettings, parsePublicKey } from "../../../src/auth/jwt-settings.ts";
import { deriveKeys } from "../../../src/auth/secret.ts";
import { onlyKey } from "../../../src/auth/token-keys.ts";
import { AUDIENCE, ISSUER, makeSigningKey, now, signToken } from "../../support/token-issuer.ts";

const keys = deriveKeys("a root secret of the tests, long enough");
const signing = makeSigningKey("k1", "RS256");
const pem = signing.publicKey.export({ type: "spki", format: "pem" }) as string;

const settings: JwtSettings = {
	issuer: ISSUER,
	audience: AUDIENCE,
	keys: parsePublicKey(pem),
	algorithms: ["EdDSA", "ES256", "RS256"],
	claims: { tenants: "tenant_id", roles: "roles", maskedUnits: "masked_units" },
};

function verifierWith(changes: Partial<JwtSettings> = {}): JwtVerifier {
	const all = { ...settings, ...changes };
	if (all.keys instanceof URL) throw new Error("not here");
	return new JwtVerifier({ settings: all, tokenKeys: onlyKey(all.keys), keys });
}

const verify = (token: string) => verifierWith().verify(token);
const signed = (claims?: Record<string, unknown>, header?: Record<string, unknown>) =>
	signToken(signing, claims, header);

describe("a good token", () => {
	test("says who it is for, until when, and hides that name from what stays", async () => {
		const exp = now() + 600;
		const principal = await verify(await signed({ exp, sub: "jane@example.com" }));
		expect(principal).toEqual({
			kind: "jwt",
			id: expect.stringMatching(/^jwt_[0-9a-f]{12}$/) as string,
			keyId: principal.id,
			name: "jane@example.com",
			roles: new Set(["writer"]),
			tenants: new Set(["acme"]),
			maskedUnits: new Set(),
			expiresAt: (exp + 30) * 1000,
		});
	});

	test("is of the same identity as the next one for the same subject, and of another than those of others", async () => {
		const ids = ["jane", "jane", "john"].map(
			async (sub) => (await verify(await signed({ sub, jti: randomUUID() }))).id,
		);
		const [first, again, other] = await Promise.all(ids);
		expect(again).toBe(first);
		expect(other).not.toBe(first);
		// An issuer of the same name elsewhere, with other root secrets, gives other ids.
		const elsewhere = new JwtVerifier({
			settings,
			tokenKeys: onlyKey(parsePublicKey(pem)),
			keys: deriveKeys("another root secret, just as long as it"),
		});
		expect((await elsewhere.verify(await signed({ sub: "jane" }))).id).not.toBe(first);
	});

	const forms: [string, JWTPayload, Record<string, unknown>][] = [
		["typ: JWT", {}, { typ: "JWT" }],
		["no typ", {}, { typ: undefined }],
		["typ: application/at+jwt", {}, { typ: "application/at+jwt" }],
		["several audiences", { aud: ["other", AUDIENCE] }, {}],
		["a clock that is 20 s ahead", { iat: now() + 20, nbf: now() + 20 }, {}],
		["just expired", { exp: now() - 20, iat: now() - 600 }, {}],
		["a day", { exp: now() + 86_400, iat: now() }, {}],
		["Keycloak's typ", { typ: "Bearer" }, { typ: "JWT" }],
		["a nonce in what says that it is an access token", { nonce: "n" }, {}],
	];
	test.each(forms)("may have this form: %s", async (_, claims, header) => {
		expect(await verify(await signed(claims, header))).toMatchObject({ kind: "jwt" });
	});

	test.each(["ES256", "EdDSA"] as const)("may be signed with %s", async (alg) => {
		const key = makeSigningKey("k", alg);
		expect(await verifierWith({ keys: key.publicKey }).verify(await signToken(key))).toMatchObject({ name: "jane" });
	});
});

describe("what is no good token is refused, always with the same words", () => {
	const attacks: [string, () => Promise<string> | string][] = [
		["alg: none", () => new UnsecuredJWT(claims()).encode()],
		["alg: none with a signature", async () => withHeader(await signed(), { alg: "none" })],
		["HS256 with the public key for a secret", () => withHmac("HS256", pem)],
		["HS256 with the public key for a secret, without its last line end", () => withHmac("HS256", pem.trim())],
		["HS512 with the public key for a secret", () => withHmac("HS512", pem)],
		[
			"an algorithm that is not among ours",
			() => new SignJWT(claims()).setProtectedHeader({ alg: "PS256" }).sign(signing.privateKey),
		],
		["another key", () => signToken(makeSigningKey("k1", "RS256"))],
		["another kind of key", () => signToken(makeSigningKey("k1", "ES256"))],
		["a changed payload", async () => changed(await signed(), 1)],
		["a changed signature", async () => changed(await signed(), 2)],
		["an empty signature", async () => `${(await signed()).split(".").slice(0, 2).join(".")}.`],
		["expired", () => signed({ exp: now() - 60, iat: now() - 600 })],
		["not yet good", () => signed({ nbf: now() + 120 })],
		["made in the future", () => signed({ iat: now() + 120 })],
		["no exp", () => signed({ exp: undefined })],
		["no iat", () => signed({ iat: undefined })],
		["no sub", () => signed({ sub: undefined })],
		["an empty sub", () => signed({ sub: "" })],
		["a sub that is too long", () => signed({ sub: "x".repeat(256) })],
		["a sub that is no text", () => signed({ sub: "\ud800" })],
		["a sub with a NUL", () => signed({ sub: "a\0b" })],
		["a sub that is a number", () => signed({ sub: 7 as unknown as string })],
		["exp that is text", () => signed({ exp: `${now() + 60}` as unknown as number })],
		["good for more than a day", () => signed({ exp: now() + 86_401, iat: now() })],
		["good for ever", () => signed({ exp: 1e300 })],
		["ended before it began", () => signed({ iat: now() + 10, exp: now() + 5 })],
		["no aud", () => signed({ aud: undefined })],
		["another aud", () => signed({ aud: "other" })],
		["an aud that begins like ours", () => signed({ aud: `${AUDIENCE}-staging` })],
		["no iss", () => signed({ iss: undefined })],
		["another iss", () => signed({ iss: `${ISSUER}/` })],
		["an ID token by its nonce", () => signed({ nonce: "n" }, { typ: "JWT" })],
		["an ID token by its at_hash", () => signed({ at_hash: "h" }, { typ: undefined })],
		["an ID token of Keycloak's", () => signed({ typ: "ID" }, { typ: "JWT" })],
		["an ID token of Cognito's", () => signed({ token_use: "id" }, { typ: undefined })],
		["a logout token", () => signed({}, { typ: "logout+jwt" })],
		["a DPoP proof", () => signed({}, { typ: "dpop+jwt" })],
		["typ that is no text", () => signed({}, { typ: 1 })],
		["bound to a key of its holder's", () => signed({ cnf: { jkt: "x" } })],
		["jku", () => signed({}, { jku: "https://evil.example/jwks.json" })],
		["x5u", () => signed({}, { x5u: "https://evil.example/cert.pem" })],
		["x5c", () => signed({}, { x5c: ["MIIB"] })],
		["jwk: its own key", () => withOwnKey()],
		["jwk: ours", () => signed({}, { jwk: signing.publicKey.export({ format: "jwk" }) as object })],
		["crit that is unknown", () => rawToken({ crit: ["http://x"], "http://x": 1 }, JSON.stringify(claims()))],
		["crit that is known to others", () => rawToken({ crit: ["b64"], b64: true }, JSON.stringify(claims()))],
		["an empty crit", () => rawToken({ crit: [] }, JSON.stringify(claims()))],
		["larger than 8 KiB", () => signed({ pad: "x".repeat(8 * 1024) })],
		["a token in a token", async () => nested(await signed())],
		["three of them", async () => nested(nested(await signed()))],
		["said to hold a token", () => rawToken({ cty: "JWT" }, JSON.stringify(claims()))],
		["encrypted", () => encrypted()],
		["a payload that is a list", () => rawToken({}, "[]")],
		["a payload that is no JSON", () => rawToken({}, "{")],
		["a header that is no JSON", () => rawToken("{", JSON.stringify(claims()))],
	];
	test.each(attacks)("%s", async (_, make) => {
		const token = await make();
		await expect(verify(token)).rejects.toMatchObject({
			code: "unauthenticated",
			message: "a valid key or token is required: send Authorization: Bearer <key>",
		});
	});

	test("each of them is one because of what it is said to be: with a good token in their place none is", async () => {
		await expect(verify(await signed())).resolves.toMatchObject({ name: "jane" });
		await expect(verify(rawToken({}, JSON.stringify(claims())))).resolves.toMatchObject({ name: "jane" });
	});
});

describe("what it allows", () => {
	const granted = async (more: JWTPayload, claims = settings.claims) =>
		verifierWith({ claims }).verify(await signed(more));

	test("roles: as a list, as words like a scope, beside those of other services", async () => {
		expect((await granted({ roles: "reader openid operator" })).roles).toEqual(new Set(["reader", "operator"]));
		expect((await granted({ roles: ["auditor", "offline_access", 7] })).roles).toEqual(new Set(["auditor"]));
	});

	test.each([undefined, null, [], "", "admin", ["Writer"], { writer: true }, 1])(
		"no role of ours: %j",
		async (roles) => {
			await expect(granted({ roles })).rejects.toMatchObject({
				code: "permission_denied",
				reason: "ROLE_NOT_PERMITTED",
			});
		},
	);

	test("tenants: one, several, or all if that is said", async () => {
		expect((await granted({ tenant_id: "acme globex" })).tenants).toEqual(new Set(["acme", "globex"]));
		expect((await granted({ tenant_id: ["acme", "globex"] })).tenants).toEqual(new Set(["acme", "globex"]));
		expect((await granted({ tenant_id: "*" })).tenants).toBe("all");
	});

	test.each([undefined, null, [], "", ["acme", "*"], "**", [7], ["a b"], "é", "x".repeat(129), true, { 0: "acme" }])(
		"no tenants: %j",
		async (tenant_id) => {
			const expected = { code: "permission_denied", reason: "TENANT_NOT_PERMITTED" };
			await expect(granted({ tenant_id })).rejects.toMatchObject(expected);
		},
	);

	test("units it must not see, and none that cannot be hidden because nobody knows it", async () => {
		expect((await granted({ masked_units: ["actor", "context"] })).maskedUnits).toEqual(new Set(["actor", "context"]));
		await expect(granted({ masked_units: ["actor", "ip"] })).rejects.toMatchObject({ reason: "MASKED_UNITS_UNKNOWN" });
		await expect(granted({ masked_units: true })).rejects.toMatchObject({ reason: "MASKED_UNITS_UNKNOWN" });
		expect((await granted({ roles: "auditor" })).maskedUnits.size).toBeGreaterThan(5);
	});

	test("claims are found by name, though it is a URL, or by path", async () => {
		const claims = { tenants: "https://example.com/tenant", roles: "realm_access.roles", maskedUnits: undefined };
		const principal = await granted(
			{ "https://example.com/tenant": "globex", realm_access: { roles: ["reader"] }, masked_units: "actor" },
			claims,
		);
		expect(principal).toMatchObject({
			tenants: new Set(["globex"]),
			roles: new Set(["reader"]),
			maskedUnits: new Set(),
		});
	});
});

describe("tokens that were checked are remembered", () => {
	test("and forgotten when they expire", async () => {
		const verifier = verifierWith();
		const token = await signed({ exp: now() + 5 });
		await verifier.verify(token);
		vi.useFakeTimers({ now: Date.now() + 40_000, toFake: ["Date"] });
		await expect(verifier.verify(token)).rejects.toMatchObject({ code: "unauthenticated" });
		vi.useRealTimers();
	});

	test("but not one that looks like them", async () => {
		const verifier = verifierWith();
		const token = await signed();
		await verifier.verify(token);
		await expect(verifier.verify(changed(token, 2))).rejects.toMatchObject({ code: "unauthenticated" });
	});
});

test.each(["", "a.b", "a.b.c.d", "a..c", "a.b.c=", "a b.c.d", "al_1_2"])("%j is not taken for a token", (text) => {
	expect(isJwt(text)).toBe(false);
});

function claims(): JWTPayload {
	return { iss: ISSUER, aud: AUDIENCE, sub: "jane", iat: now(), exp: now() + 60, tenant_id: "acme", roles: ["writer"] };
}

function withHmac(alg: "HS256" | "HS512", secret: string): string {
	const signed = `${base64url.encode(JSON.stringify({ alg, typ: "at+jwt" }))}.${base64url.encode(JSON.stringify(claims()))}`;
	return `${signed}.${createHmac(alg.replace("HS", "sha"), secret).update(signed).digest("base64url")}`;
}

function withHeader(token: string, header: object): string {
	return [base64url.encode(JSON.stringify(header)), ...token.split(".").slice(1)].join(".");
}

function changed(token: string, part: number): string {
	const parts = token.split(".");
	const bytes = Buffer.from(parts[part] as string, "base64url");
	bytes[10] = (bytes[10] as number) ^ 1;
	parts[part] = bytes.toString("base64url");
	return parts.join(".");
}

/** Signed as it should be, whatever it says. */
function rawToken(header: object | string, payload: string, key: KeyObject = signing.privateKey): string {
	const text = typeof header === "string" ? header : JSON.stringify({ alg: "RS256", kid: "k1", ...header });
	const signed = `${base64url.encode(text)}.${base64url.encode(payload)}`;
	return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
}

/** Its key in its own header, which it was signed with. */
function withOwnKey(): string {
	const own = makeSigningKey("k1", "RS256");
	return rawToken({ jwk: own.publicKey.export({ format: "jwk" }) }, JSON.stringify(claims()), own.privateKey);
}

const nested = (token: string) => rawToken({ cty: "JWT" }, token);

function encrypted(): Promise<string> {
	return new CompactEncrypt(Buffer.from(JSON.stringify(claims())))
		.setProtectedHeader({ alg: "RSA-OAEP-256", enc: "A256GCM" })
		.encrypt(signing.publicKey);
}
