import { hkdfSync } from "node:crypto";

/** The keys derived from the one root secret (AUDIT_SECRET), each for one purpose and of no use for another. */
export interface DerivedKeys {
	/** Authenticates page tokens. */
	readonly pageTokens: Uint8Array;
	/** Turns idempotency keys into event ids. */
	readonly eventIds: Uint8Array;
	/** Tells a retry from a reuse of a key (`content_mac`). */
	readonly contentMacs: Uint8Array;
	/** Authenticates manifests (`K_writer`). */
	readonly manifests: Uint8Array;
	/** Hashes API keys at rest. */
	readonly apiKeys: Uint8Array;
	/** Makes the API keys of `make run`'s demo tenants, the same at every start. */
	readonly demoKeys: Uint8Array;
	/** Makes the passwords of the service's database roles. */
	readonly databaseRoles: Uint8Array;
}

/** @param secret the root secret: at least 32 characters of good randomness (checked by the configuration). */
export function deriveKeys(secret: string): DerivedKeys {
	const derive = (purpose: string) => new Uint8Array(hkdfSync("sha256", secret, "", `auditlog/v1/${purpose}`, 32));
	return {
		pageTokens: derive("page-tokens"),
		eventIds: derive("event-ids"),
		contentMacs: derive("content-macs"),
		manifests: derive("manifests"),
		apiKeys: derive("api-keys"),
		demoKeys: derive("demo-keys"),
		databaseRoles: derive("database-roles"),
	};
}

/** The password of one of the service's database roles. */
export function rolePassword(keys: DerivedKeys, role: string): string {
	return Buffer.from(hkdfSync("sha256", keys.databaseRoles, "", role, 24)).toString("base64url");
}
