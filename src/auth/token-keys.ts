import type { KeyObject } from "node:crypto";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { AuditError } from "../errors.ts";
import type { Logger } from "../logger.ts";

/** The keys that tokens are checked with. */
export interface TokenKeys {
	/** Finds the key a token says it was signed with. The token is not to be believed yet. */
	readonly find: JWTVerifyGetKey;
	/** Another one whenever the keys change; undefined while there are none. What was checked with others is to be checked anew. */
	generation(): number | undefined;
}

/** The only key there is: whatever a token says of its key. */
export function onlyKey(key: KeyObject): TokenKeys {
	return { find: () => Promise.resolve(key), generation: () => 0 };
}

export interface RemoteTokenKeysOptions {
	readonly url: URL;
	readonly logger: Logger;
	/** Where they are to differ from the usual ones. */
	readonly times?: Partial<KeyTimes>;
}

/** In milliseconds. */
export const KEY_TIMES = {
	/** How often the keys are fetched: for so long one that the issuer withdraws still works. */
	refresh: 300_000,
	/** A key nobody has heard of is asked for, but no sooner than this after the last attempt: made-up ones cost nothing. */
	cooldown: 30_000,
	/** How long the last keys are used while no others can be had. */
	kept: 86_400_000,
	answer: 5_000,
} as const;
type KeyTimes = { readonly [T in keyof typeof KEY_TIMES]: number };

const MOST_BYTES = 256 * 1024;
const MOST_KEYS = 100;

/**
 * An issuer's keys (JWKS), fetched again and again. An issuer that is away, or answers with anything else than keys, does
 * not take away those there are, for a day.
 */
export class RemoteTokenKeys implements TokenKeys {
	readonly #url: URL;
	readonly #logger: Logger;
	readonly #times: KeyTimes;
	#keys: { readonly find: JWTVerifyGetKey; readonly text: string } | undefined;
	#generation = 0;
	#fetchedAt = -Infinity;
	#triedAt = -Infinity;
	#fetching: Promise<void> | undefined;
	#isAway = false;

	constructor({ url, logger, times }: RemoteTokenKeysOptions) {
		this.#url = url;
		this.#logger = logger;
		this.#times = { ...KEY_TIMES, ...times };
	}

	/** @throws AuditError `unavailable` while there are no keys at all; an error of jose's if there is none like this */
	readonly find: JWTVerifyGetKey = async (header, token) => {
		if (!this.#usable()) await this.#refreshIfDue();
		const keys = this.#usable();
		if (!keys) throw withoutKeys();
		try {
			return await keys.find(header, token);
		} catch (error) {
			if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
			await this.#refreshIfDue();
			return (this.#usable() ?? keys).find(header, token);
		}
	};

	generation(): number | undefined {
		return this.#usable() && this.#generation;
	}

	/** How long ago the keys there are were fetched; undefined: there are none. */
	ageMs(): number | undefined {
		return this.#keys && performance.now() - this.#fetchedAt;
	}

	/** Fetches the keys, whenever that was done last. What goes wrong is logged, once for each time the issuer is away. */
	refresh(): Promise<void> {
		this.#fetching ??= this.#refreshOnce().finally(() => {
			this.#fetching = undefined;
		});
		return this.#fetching;
	}

	async #refreshIfDue(): Promise<void> {
		if (this.#fetching || performance.now() - this.#triedAt >= this.#times.cooldown) await this.refresh();
	}

	async #refreshOnce(): Promise<void> {
		this.#triedAt = performance.now();
		try {
			const text = await fetchBounded(this.#url, this.#times.answer);
			if (text !== this.#keys?.text) {
				this.#keys = { find: readKeys(text), text };
				this.#generation += 1;
			}
			this.#fetchedAt = performance.now();
			if (this.#isAway) this.#logger.info("the keys of tokens can be fetched again");
			this.#isAway = false;
		} catch (error) {
			if (!this.#isAway)
				this.#logger.warn({ err: error }, "the keys of tokens cannot be fetched; the last ones are used");
			this.#isAway = true;
		}
	}

	#usable() {
		return performance.now() - this.#fetchedAt <= this.#times.kept ? this.#keys : undefined;
	}
}

/** From where the URL says and from nowhere else, within its time, no more than keys need. */
async function fetchBounded(url: URL, withinMs: number): Promise<string> {
	const response = await fetch(url, {
		redirect: "error",
		signal: AbortSignal.timeout(withinMs),
		headers: { accept: "application/jwk-set+json, application/json" },
	});
	const chunks: Uint8Array[] = [];
	let bytes = 0;
	if (response.status !== 200) {
		await response.body?.cancel();
		throw codedError(`HTTP_${response.status}`);
	}
	for await (const chunk of response.body ?? []) {
		bytes += chunk.length;
		// Leaving the loop ends the connection.
		if (bytes > MOST_BYTES) throw codedError("TOO_LARGE");
		chunks.push(chunk);
	}
	return Buffer.concat(chunks).toString("utf8");
}

function readKeys(text: string): JWTVerifyGetKey {
	let jwks: JSONWebKeySet;
	try {
		jwks = JSON.parse(text) as JSONWebKeySet;
	} catch {
		throw codedError("NOT_JSON");
	}
	const find = createLocalJWKSet(jwks);
	const count = jwks.keys.length;
	// None at all is a mistake rather than the end of all tokens.
	if (count === 0 || count > MOST_KEYS) throw codedError("NUMBER_OF_KEYS");
	return find;
}

/** Messages of errors are not logged, codes are. */
function codedError(code: string): Error {
	return Object.assign(new Error("what the issuer answers are not its keys"), { code });
}

function withoutKeys(): AuditError {
	return new AuditError("unavailable", "the keys that tokens are checked with cannot be had; try again", {
		reason: "TOKEN_KEYS_AWAY",
		retryAfterMs: 1_000,
	});
}
