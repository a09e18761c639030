import { createSecretKey, hkdfSync, type KeyObject } from "node:crypto";

/** The keys derived from the one root secret (AUDIT_SECRET), each for one purpose and of no use for another. */
export interface DerivedKeys {
	/** Authenticates page tokens. */
	readonly pageTokens: KeyObject;
	/** Turns idempotency keys into event ids. */
	readonly eventIds: KeyObject;
	/** Tells a retry from a reuse of a key (`content_mac`). */
	readonly contentMacs: KeyObject;
	/** Authenticates manifests (`K_writer`). */
	readonly manifests: KeyObject;
	/** Hashes API keys at rest. */
	readonly apiKeys: KeyObject;
	/** Makes the API keys of `make run`'s demo tenants, the same at every start. */
	readonly demoKeys: KeyObject;
	/** Makes the ids of callers who are known by a name of others' making (JWT, mTLS). */
	readonly identities: KeyObject;
	/** Makes the passwords of the service's database roles. */
	readonly databaseRoles: KeyObject;
}

/** @param secret the root secret: at least 32 characters of good randomness (checked by the configuration). */
export function deriveKeys(secret: string): DerivedKeys {
	// As KeyObjects: an HMAC with raw bytes as its key costs several times as much.
	const derive = (purpose: string) =>
		createSecretKey(new Uint8Array(hkdfSync("sha256", secret, "", `auditlog/v1/${purpose}`, 32)));
	return {
		pageTokens: derive("page-tokens"),
		eventIds: derive("event-ids"),
		contentMacs: derive("content-macs"),
		manifests: derive("manifests"),
		apiKeys: derive("api-keys"),
		demoKeys: derive("demo-keys"),
		identities: derive("identities"),
		databaseRoles: derive("database-roles"),
	};
}

/** The password of one of the service's database roles. */
export function rolePassword(keys: DerivedKeys, role: string): string {
	return Buffer.from(hkdfSync("sha256", keys.databaseRoles, "", role, 24)).toString("base64url");
}
