import type { ApiKeyVerifier } from "./api-key-verifier.ts";
import { parseApiKey } from "./api-keys.ts";
import { isJwt, type JwtVerifier } from "./jwt.ts";
import type { CertificateVerifier, ClientCertificate } from "./mtls.ts";
import type { Principal } from "./principal.ts";
import { unauthenticated } from "./unauthenticated.ts";

/** What a request brings to prove who sends it. */
export interface Credentials {
	/** Reads one request header by its lower-case name. */
	header(name: string): string | null | undefined;
	/** What the connection was opened with, checked against the authorities that are believed. */
	readonly certificate?: ClientCertificate | undefined;
}

export interface AuthenticatorOptions {
	readonly apiKeys: Pick<ApiKeyVerifier, "verify">;
	/** If tokens are believed. */
	readonly tokens?: Pick<JwtVerifier, "verify"> | undefined;
	/** If certificates are. */
	readonly certificates?: Pick<CertificateVerifier, "verify"> | undefined;
}

/** Tells who is calling, whatever the kind of credential. */
export class Authenticator {
	readonly #apiKeys: AuthenticatorOptions["apiKeys"];
	readonly #tokens: AuthenticatorOptions["tokens"];
	readonly #certificates: AuthenticatorOptions["certificates"];

	constructor({ apiKeys, tokens, certificates }: AuthenticatorOptions) {
		this.#apiKeys = apiKeys;
		this.#tokens = tokens;
		this.#certificates = certificates;
	}

	/**
	 * Whoever brings two credentials is nobody: which of them is meant is not ours to guess.
	 *
	 * @throws AuditError `unauthenticated`, the same for every cause; `permission_denied` if the credential is good and
	 * allows nothing at all; `unavailable` if the caller cannot be looked up
	 */
	async authenticate(credentials: Credentials): Promise<Principal> {
		const { certificate } = credentials;
		const holder = certificate && this.#certificates?.verify(certificate);
		const text = credentialOf(credentials);
		if (text === undefined && holder) return holder;
		if (text === undefined || holder) throw unauthenticated();
		const key = parseApiKey(text);
		if (key) return this.#apiKeys.verify(key);
		if (!this.#tokens || !isJwt(text)) throw unauthenticated();
		return this.#tokens.verify(text);
	}
}

/**
 * What stands in `Authorization: Bearer` or `x-api-key`; undefined if there is neither.
 *
 * @throws AuditError `unauthenticated` if there are two that differ, or another scheme
 */
function credentialOf(credentials: Credentials): string | undefined {
	const authorization = credentials.header("authorization");
	const bearer = authorization ? /^bearer +(\S+)$/i.exec(authorization.trim())?.[1] : undefined;
	const plain = credentials.header("x-api-key")?.trim() || undefined;
	if ((authorization && !bearer) || (bearer && plain && bearer !== plain)) throw unauthenticated();
	return bearer ?? plain;
}
