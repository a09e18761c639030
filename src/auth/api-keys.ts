import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import type { DerivedKeys } from "./secret.ts";

/**
 * An API key. Its text is `al_<id>_<secret><checksum>`: the id is public and finds the row, the secret has 256 bits, the
 * checksum tells a key from what only looks like one, to us without a look-up, to secret scanners without us.
 */
export interface ApiKey {
	/** 12 hexadecimal digits. */
	readonly id: string;
	/** 64 hexadecimal digits. */
	readonly secret: string;
}

export function formatApiKey({ id, secret }: ApiKey): string {
	const text = `al_${id}_${secret}`;
	return text + checksumOf(text);
}

/** Reads the text of a key; undefined if it is none. */
export function parseApiKey(text: string): ApiKey | undefined {
	const [, body = "", id, secret, checksum] = /^(al_([0-9a-f]{12})_([0-9a-f]{64}))([0-9a-f]{8})$/.exec(text) ?? [];
	return id && secret && checksum === checksumOf(body) ? { id, secret } : undefined;
}

/** CRC-32 (ISO 3309, as zlib and gzip have it) in 8 hexadecimal digits. No secret: it says that nothing was mistyped. */
function checksumOf(text: string): string {
	return crc32(text).toString(16).padStart(8, "0");
}

export function newApiKey(): ApiKey {
	return { id: randomBytes(6).toString("hex"), secret: randomBytes(32).toString("hex") };
}

/** The key of this name for `make run`'s demo tenants: the same at every start with the same root secret. */
export function demoApiKey(keys: DerivedKeys, name: string): ApiKey {
	const derive = (part: string) => createHmac("sha256", keys.demoKeys).update(`${part}\0${name}`).digest("hex");
	return { id: derive("id").slice(0, 12), secret: derive("secret") };
}

/** What is stored of a secret. Without the key, which is not in the database, nothing can be guessed from it. */
export function hashSecret(keys: DerivedKeys, { secret }: ApiKey): Buffer {
	return createHmac("sha256", keys.apiKeys).update(secret).digest();
}

/** Whether a key's secret is the one stored, in a time that does not depend on where they differ. */
export function isSecretOf(keys: DerivedKeys, key: ApiKey, storedHash: Uint8Array): boolean {
	const hash = hashSecret(keys, key);
	return hash.length === storedHash.length && timingSafeEqual(hash, storedHash);
}
