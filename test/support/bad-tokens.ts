import { createHmac, sign } from "node:crypto";
import { now, type SigningKey, signToken } from "./token-issuer.ts";

type TokenOf = (issuer: { readonly signing: SigningKey }) => Promise<string>;

/** A token that may do everything, but for what is said. */
export const token =
	(claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}): TokenOf =>
	({ signing }) =>
		signToken(signing, { roles: ["operator"], tenant_id: "*", ...claims }, header);

/** The token with another header, signed in whatever way. */
const forged =
	(header: Record<string, unknown>, signatureOf: (text: string, key: SigningKey) => Buffer): TokenOf =>
	async ({ signing }) => {
		const [, payload = ""] = (await token()({ signing })).split(".");
		const text = `${Buffer.from(JSON.stringify({ kid: "k1", ...header })).toString("base64url")}.${payload}`;
		return `${text}.${signatureOf(text, signing).toString("base64url")}`;
	};
/** As somebody can who has nothing but the public key. */
const byHmac = (text: string, { publicKey }: SigningKey) =>
	createHmac("sha256", publicKey.export({ type: "spki", format: "pem" }))
		.update(text)
		.digest();
const properly = (text: string, { privateKey }: SigningKey) => sign("sha256", Buffer.from(text), privateKey);

/** Tokens nobody may believe, each with its row in the catalogue of bad input. */
export const BAD_TOKENS: readonly [row: number, what: string, TokenOf][] = [
	[37, "a token with alg none", forged({ alg: "none" }, () => Buffer.of())],
	[37, "a token with alg none and a signature", forged({ alg: "none" }, properly)],
	[37, "a token of HS256 with the public key for a secret", forged({ alg: "HS256" }, byHmac)],
	[37, "a token whose algorithm is none of ours", ({ signing }) => signToken({ ...signing, alg: "PS256" })],
	[38, "a token that has expired", token({ iat: now() - 600, exp: now() - 60 })],
	[38, "a token of tomorrow", token({ nbf: now() + 3_000 })],
	[38, "a token without an end", token({ exp: undefined })],
	[38, "a token without a beginning", token({ iat: undefined })],
	[38, "a token for more than a day", token({ iat: now(), exp: now() + 86_401 })],
	[39, "a token for others", token({ aud: "others" })],
	[39, "a token for nobody", token({ aud: undefined })],
	[39, "a token of another issuer", token({ iss: "https://other.example" })],
	[39, "an ID token", token({ nonce: "n" }, { typ: "JWT" })],
	[39, "a logout token", token({}, { typ: "logout+jwt" })],
	...["../../etc/passwd", "' OR '1'='1", "__proto__", "", "k1\u0000", "x".repeat(500)].map(
		(kid): [number, string, TokenOf] => [40, `a token with the kid ${kid.slice(0, 20)}`, token({}, { kid })],
	),
	[41, "a token with jku", token({}, { jku: "https://evil.example/jwks.json" })],
	[41, "a token with x5u", token({}, { x5u: "https://evil.example/cert.pem" })],
	[
		41,
		"a token with jwk",
		({ signing }) => token({}, { jwk: signing.publicKey.export({ format: "jwk" }) })({ signing }),
	],
	[42, "a token with crit", forged({ alg: "RS256", crit: ["b64"], b64: true }, properly)],
	[42, "a token of more than 8 KiB", token({ pad: "x".repeat(6_500) })],
	[42, "a token within a token", token({}, { cty: "JWT" })],
];
