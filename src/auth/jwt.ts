import { createHash } from "node:crypto";
import { decodeProtectedHeader, type JWTPayload, jwtVerify } from "jose";
import { AuditError } from "../errors.ts";
import { identityId } from "./identity-id.ts";
import { algorithmsFor, type JwtSettings } from "./jwt-settings.ts";
import type { Principal } from "./principal.ts";
import type { DerivedKeys } from "./secret.ts";
import { grantOf } from "./token-claims.ts";
import type { TokenKeys } from "./token-keys.ts";
import { unauthenticated } from "./unauthenticated.ts";

export interface JwtVerifierOptions {
	readonly settings: JwtSettings;
	readonly tokenKeys: TokenKeys;
	/** Makes the ids of those whom tokens are for. */
	readonly keys: DerivedKeys;
}

const TOKEN_CHARACTERS = 8 * 1024;
/** How far the issuer's clock and ours may be apart. */
const SKEW_S = 30;
/** A token cannot be taken back, so it must not be good for long. */
const LIFETIME_S = 86_400;
const SUBJECT_CHARACTERS = 255;
/** Tokens that were checked are remembered: a signature costs as much as the rest of a small call. */
const REMEMBERED = 10_000;

/** Whether a text has the form of a signed token: three parts, and what is no base64url is in none of them. */
export function isJwt(text: string): boolean {
	return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text);
}

/** Tells whose a token (JWT, RFC 9068 and RFC 8725) is, if it is a good one. */
export class JwtVerifier {
	readonly #settings: JwtSettings;
	readonly #algorithms: string[];
	readonly #tokenKeys: TokenKeys;
	readonly #keys: DerivedKeys;
	/** By the hash of the token: what is left of this memory is of no use to anybody. */
	readonly #verified = new Map<string, Principal>();
	#generation: number | undefined;

	constructor({ settings, tokenKeys, keys }: JwtVerifierOptions) {
		this.#settings = settings;
		this.#algorithms = [
			...(settings.keys instanceof URL ? settings.algorithms : algorithmsFor(settings.keys, settings.algorithms)),
		];
		this.#tokenKeys = tokenKeys;
		this.#keys = keys;
	}

	/**
	 * @throws AuditError `unauthenticated`, the same for every cause; `permission_denied` if it is good and allows nothing;
	 * `unavailable` if there are no keys to check it with
	 */
	async verify(token: string): Promise<Principal> {
		if (token.length > TOKEN_CHARACTERS) throw unauthenticated();
		const hash = createHash("sha256").update(token).digest("base64");
		const known = this.#recall(hash);
		if (known) return known;
		const generation = this.#tokenKeys.generation();
		const principal = this.#principalOf(await this.#payloadOf(token));
		// Keys that changed meanwhile are asked again.
		if (generation === this.#tokenKeys.generation()) this.#remember(hash, principal);
		return principal;
	}

	async #payloadOf(token: string): Promise<JWTPayload> {
		try {
			checkHeader(decodeProtectedHeader(token));
			const { issuer, audience } = this.#settings;
			const { payload, protectedHeader } = await jwtVerify(token, this.#tokenKeys.find, {
				algorithms: this.#algorithms,
				issuer,
				audience,
				clockTolerance: SKEW_S,
				requiredClaims: ["iss", "aud", "exp", "iat", "sub"],
			});
			checkClaims(payload, protectedHeader.typ);
			return payload;
		} catch (error) {
			if (error instanceof AuditError) throw error;
			throw unauthenticated();
		}
	}

	#principalOf(payload: JWTPayload): Principal {
		const { iss = "", sub = "", exp = 0 } = payload;
		const id = identityId(this.#keys, "jwt", [iss, sub]);
		const expiresAt = (exp + SKEW_S) * 1000;
		return { kind: "jwt", id, keyId: id, name: sub, ...grantOf(payload, this.#settings.claims), expiresAt };
	}

	#recall(hash: string): Principal | undefined {
		const generation = this.#tokenKeys.generation();
		if (generation === undefined || generation !== this.#generation) {
			this.#verified.clear();
			this.#generation = generation;
		}
		const known = this.#verified.get(hash);
		if (!known || (known.expiresAt ?? 0) > Date.now()) return known;
		this.#verified.delete(hash);
		return undefined;
	}

	#remember(hash: string, principal: Principal): void {
		this.#verified.set(hash, principal);
		if (this.#verified.size <= REMEMBERED) return;
		for (const oldest of this.#verified.keys()) {
			this.#verified.delete(oldest);
			return;
		}
	}
}

/** Where to find a key, or the key itself, said by the very token it is to prove. */
const KEYS_IN_HEADERS = ["jku", "jwk", "x5u", "x5c"] as const;

/** `typ` of access tokens, as it is and as it often is. Left out it says nothing; any other is a token for something else. */
const ACCESS_TOKENS: readonly unknown[] = [undefined, "jwt", "at+jwt", "application/at+jwt"];

/** @throws if the header asks for what is not done here */
function checkHeader(header: Readonly<Record<string, unknown>>): void {
	const { typ } = header;
	const isAccessToken = ACCESS_TOKENS.includes(typeof typ === "string" ? typ.toLowerCase() : typ);
	const hasKey = KEYS_IN_HEADERS.some((name) => name in header);
	// `crit` demands that its extensions are understood: none is. `cty` says that there is a token inside the token.
	if (!isAccessToken || hasKey || "crit" in header || "cty" in header) throw unauthenticated();
}

/** What only tokens for signing in have (OpenID Connect Core 2 and 3.1.3.6). */
const OF_ID_TOKENS = ["nonce", "at_hash", "c_hash", "s_hash"] as const;

/** @throws if the token is for something else, or for too long */
function checkClaims(payload: JWTPayload, typ: string | undefined): void {
	const { iat = Infinity, exp = Infinity, sub } = payload;
	const isTimely = iat <= Date.now() / 1000 + SKEW_S && exp > iat && exp - iat <= LIFETIME_S;
	const isSubject = typeof sub === "string" && sub.length > 0 && sub.length <= SUBJECT_CHARACTERS && isText(sub);
	const isDeclared = typ?.toLowerCase().endsWith("at+jwt") === true;
	const isIdToken = !isDeclared && OF_ID_TOKENS.some((name) => name in payload);
	// How Keycloak and Cognito say what a token is for.
	const isOther = (payload.typ ?? "Bearer") !== "Bearer" || (payload.token_use ?? "access") !== "access";
	// Bound to a key of its holder's (RFC 7800), which is not asked for here: whoever stole it must not get by with it.
	const isBound = "cnf" in payload;
	if (!isTimely || !isSubject || isIdToken || isOther || isBound) throw unauthenticated();
}

function isText(text: string): boolean {
	return text.isWellFormed() && !text.includes("\0");
}
