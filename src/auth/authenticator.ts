import type { ApiKeyVerifier } from "./api-key-verifier.ts";
import { type ApiKey, parseApiKey } from "./api-keys.ts";
import type { Principal } from "./principal.ts";
import { unauthenticated } from "./unauthenticated.ts";

/** What a request brings to prove who sends it. */
export interface Credentials {
	/** Reads one request header by its lower-case name. */
	header(name: string): string | null | undefined;
}

export interface AuthenticatorOptions {
	readonly apiKeys: Pick<ApiKeyVerifier, "verify">;
}

/** Tells who is calling, whatever the kind of credential. */
export class Authenticator {
	readonly #apiKeys: AuthenticatorOptions["apiKeys"];

	constructor({ apiKeys }: AuthenticatorOptions) {
		this.#apiKeys = apiKeys;
	}

	/** @throws AuditError `unauthenticated`, the same for every cause; `unavailable` if the caller cannot be looked up */
	async authenticate(credentials: Credentials): Promise<Principal> {
		const key = apiKeyOf(credentials);
		if (!key) throw unauthenticated();
		return this.#apiKeys.verify(key);
	}
}

/** The key in `Authorization: Bearer` or `x-api-key`; undefined if there is none, or two that differ. */
function apiKeyOf(credentials: Credentials): ApiKey | undefined {
	const authorization = credentials.header("authorization");
	const bearer = authorization ? /^bearer +(\S+)$/i.exec(authorization.trim())?.[1] : undefined;
	if (authorization && !bearer) return undefined;
	const plain = credentials.header("x-api-key")?.trim() || undefined;
	if (bearer && plain && bearer !== plain) return undefined;
	const text = bearer ?? plain;
	return text ? parseApiKey(text) : undefined;
}
