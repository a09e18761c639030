import { createPublicKey, type JsonWebKey, type KeyObject } from "node:crypto";
import { isLoopback } from "../loopback.ts";

/** What tokens (JWT) are believed, and what in them says who somebody is. */
export interface JwtSettings {
	readonly issuer: string;
	/** What the service is called in tokens that are meant for it. */
	readonly audience: string;
	/** Where the issuer's keys are, or its only key. */
	readonly keys: URL | KeyObject;
	readonly algorithms: readonly string[];
	/** The names of claims, or paths such as `realm_access.roles`. */
	readonly claims: {
		readonly tenants: string;
		readonly roles: string;
		readonly maskedUnits: string | undefined;
	};
}

/** The kind of key each algorithm goes with. None with a shared secret: whoever can check those can make them. */
const KEY_OF_ALGORITHM: Readonly<Record<string, string>> = {
	EdDSA: "ed25519",
	Ed25519: "ed25519",
	ES256: "prime256v1",
	ES384: "secp384r1",
	ES512: "secp521r1",
	PS256: "rsa",
	PS384: "rsa",
	PS512: "rsa",
	RS256: "rsa",
	RS384: "rsa",
	RS512: "rsa",
};

/** The settings of tokens, part of the one table of them all. */
export const JWT_SETTINGS = {
	AUDIT_JWT_ISSUER: {
		doc: "Whose tokens (JWT) are believed: what stands in their `iss`. Needs AUDIT_JWT_AUDIENCE, and AUDIT_JWT_JWKS_URL or AUDIT_JWT_PUBLIC_KEY. Without it no tokens are.",
		optional: true,
		parse: (text: string) => text,
	},
	AUDIT_JWT_AUDIENCE: {
		doc: "What the service is called in tokens that are meant for it: must be in their `aud`.",
		optional: true,
		parse: (text: string) => text,
	},
	AUDIT_JWT_JWKS_URL: {
		doc: "Where the issuer's keys are: https://, or http:// to this machine. Fetched every 5 minutes; while they cannot be had, the last ones are used for a day.",
		optional: true,
		parse: parseJwksUrl,
	},
	AUDIT_JWT_PUBLIC_KEY: {
		doc: "The issuer's only key, instead of AUDIT_JWT_JWKS_URL: PEM (a public key or a certificate), or a JWK.",
		optional: true,
		secret: true,
		parse: parsePublicKey,
	},
	AUDIT_JWT_ALGORITHMS: {
		doc: "How tokens may be signed: some of EdDSA, Ed25519, ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512. Never with a shared secret.",
		fallback: "EdDSA,ES256,RS256",
		parse: parseAlgorithms,
	},
	AUDIT_JWT_TENANT_CLAIM: {
		doc: "The claim that names a token's tenants: a list, or words separated by spaces; `*` alone: all. A name, or a path such as `app.tenants`.",
		fallback: "tenant_id",
		parse: (text: string) => text,
	},
	AUDIT_JWT_ROLES_CLAIM: {
		doc: "The claim that names its roles, likewise; other words in it are passed over.",
		fallback: "roles",
		parse: (text: string) => text,
	},
	AUDIT_JWT_MASKED_UNITS_CLAIM: {
		doc: "The claim that names the units its holder must not see, likewise. Without it only the role decides.",
		optional: true,
		parse: (text: string) => text,
	},
} as const;

type Read = <T>(name: keyof typeof JWT_SETTINGS) => T | undefined;

/**
 * What the settings say together.
 *
 * @param problems what is wrong with them so far; what does not go together is added
 */
export function readJwtSettings(read: Read, problems: string[]): JwtSettings | undefined {
	const before = problems.length;
	const [issuer, audience] = [read<string>("AUDIT_JWT_ISSUER"), read<string>("AUDIT_JWT_AUDIENCE")];
	const [url, key] = [read<URL>("AUDIT_JWT_JWKS_URL"), read<KeyObject>("AUDIT_JWT_PUBLIC_KEY")];
	const algorithms = read<readonly string[]>("AUDIT_JWT_ALGORITHMS");
	const claims = {
		tenants: read<string>("AUDIT_JWT_TENANT_CLAIM") as string,
		roles: read<string>("AUDIT_JWT_ROLES_CLAIM") as string,
		maskedUnits: read<string>("AUDIT_JWT_MASKED_UNITS_CLAIM"),
	};
	if (problems.length > before || (!issuer && !audience && !url && !key)) return undefined;
	if (!issuer) problems.push("AUDIT_JWT_ISSUER: is required with the other settings of tokens");
	// Without it any other service's tokens would be good here.
	if (!audience) problems.push("AUDIT_JWT_AUDIENCE: is required with AUDIT_JWT_ISSUER");
	if (!url && !key) problems.push("AUDIT_JWT_JWKS_URL: is required with AUDIT_JWT_ISSUER, or AUDIT_JWT_PUBLIC_KEY");
	if (url && key) problems.push("AUDIT_JWT_PUBLIC_KEY: give this or AUDIT_JWT_JWKS_URL, not both");
	if (key && algorithms && algorithmsFor(key, algorithms).length === 0) {
		problems.push("AUDIT_JWT_PUBLIC_KEY: is good for none of AUDIT_JWT_ALGORITHMS");
	}
	const keys = url ?? key;
	return issuer && audience && keys && algorithms ? { issuer, audience, keys, algorithms, claims } : undefined;
}

/** @throws Error naming what may be chosen */
export function parseAlgorithms(text: string): readonly string[] {
	const names = text.split(",").map((name) => name.trim());
	if (!names.every((name) => Object.hasOwn(KEY_OF_ALGORITHM, name))) {
		throw new Error(`must be some of ${Object.keys(KEY_OF_ALGORITHM).join(", ")}, separated by commas`);
	}
	return names;
}

/** @throws Error unless nobody between the issuer and us could put keys of his own into the answer */
export function parseJwksUrl(text: string): URL {
	const url = URL.parse(text);
	if (!url || url.username || url.password || url.hash) throw new Error("must be a URL beginning with https://");
	const isSafe = url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname));
	if (!isSafe) throw new Error("must begin with https:// (http:// to this machine alone)");
	return url;
}

/** @throws Error unless the text is one public key that is good for signatures: PEM (SPKI or a certificate), or a JWK */
export function parsePublicKey(text: string): KeyObject {
	const key = readPublicKey(text.trim());
	if (kindOf(key) === undefined) throw new Error("must be an Ed25519, a P-256, P-384, P-521 or an RSA key");
	if ((key.asymmetricKeyDetails?.modulusLength ?? 2048) < 2048) throw new Error("must have 2048 bits at least");
	return key;
}

/** Which of the algorithms this key can be used with. */
export function algorithmsFor(key: KeyObject, algorithms: readonly string[]): readonly string[] {
	return algorithms.filter((algorithm) => KEY_OF_ALGORITHM[algorithm] === kindOf(key));
}

function kindOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): string | undefined {
	const kind = asymmetricKeyType === "ec" ? asymmetricKeyDetails?.namedCurve : asymmetricKeyType;
	return Object.values(KEY_OF_ALGORITHM).find((known) => known === kind);
}

function readPublicKey(text: string): KeyObject {
	const isPrivate = text.startsWith("{") ? /"d"\s*:/.test(text) : /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text);
	// Node would take the public half of it; but who signs tokens must not be known here.
	if (isPrivate) throw new Error("must be a public key: this is a private one, which belongs to the issuer alone");
	try {
		return text.startsWith("{")
			? createPublicKey({ key: JSON.parse(text) as JsonWebKey, format: "jwk" })
			: createPublicKey(text);
	} catch {
		throw new Error("must be a public key: PEM, or a JWK");
	}
}
