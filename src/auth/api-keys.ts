import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type pg from "pg";
import type { TenantId } from "../event/event.ts";
import type { MaskableUnit, Role } from "./principal.ts";
import type { DerivedKeys } from "./secret.ts";

/** An API key. Its text is `al_<id>_<secret>`: the id is public and finds the row, the secret has 256 bits. */
export interface ApiKey {
	/** 12 hexadecimal digits. */
	readonly id: string;
	/** 64 hexadecimal digits. */
	readonly secret: string;
}

export function formatApiKey({ id, secret }: ApiKey): string {
	return `al_${id}_${secret}`;
}

/** Reads the text of a key; undefined if it is none. */
export function parseApiKey(text: string): ApiKey | undefined {
	const [, id, secret] = /^al_([0-9a-f]{12})_([0-9a-f]{64})$/.exec(text) ?? [];
	return id && secret ? { id, secret } : undefined;
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

export interface ApiKeySpec {
	/** Default: a new random one. */
	readonly key?: ApiKey;
	/** For people. */
	readonly name: string;
	readonly role: Role;
	readonly tenants: readonly TenantId[] | "all";
	/** What it is denied besides what its role is denied. Default: nothing. */
	readonly maskedUnits?: readonly MaskableUnit[];
	/** Default: never. */
	readonly expiresAt?: Date;
}

/**
 * Stores a key and returns its text, which cannot be had again. Storing a given key twice replaces what it may do.
 *
 * @param admin connected as somebody who may become `audit_owner`: none of the service's own roles can make keys
 */
export async function createApiKey(admin: pg.ClientBase, keys: DerivedKeys, spec: ApiKeySpec): Promise<string> {
	const key = spec.key ?? newApiKey();
	const tenantIds = spec.tenants === "all" ? null : [...spec.tenants];
	if (tenantIds?.length === 0) throw new Error("a key must name a tenant at least, or all of them");
	await asAuditOwner(admin, async () => {
		const { rowCount } = await admin.query(
			`INSERT INTO audit.api_keys (id, identity, secret_hash, name, role, tenant_ids, masked_units, expires_at)
			 VALUES ($1, $1, $2, $3, $4, $5, $6, $7)
			 ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role, tenant_ids = excluded.tenant_ids
			 WHERE api_keys.secret_hash = excluded.secret_hash`,
			[key.id, hashSecret(keys, key), spec.name, spec.role, tenantIds, spec.maskedUnits ?? [], spec.expiresAt ?? null],
		);
		// Another secret under the same id would take that key's place.
		if (rowCount !== 1) throw new Error("there is another key with this id; make a new one");
	});
	return formatApiKey(key);
}

/** What may be shown of a key: neither its secret, which is not stored, nor the hash of it. */
export interface ApiKeyInfo {
	readonly id: string;
	readonly name: string;
	readonly role: Role;
	readonly tenants: readonly string[] | "all";
	readonly createdAt: Date;
}

/** Every key there is, the oldest first. @param admin as for `createApiKey` */
export async function listApiKeys(admin: pg.ClientBase): Promise<ApiKeyInfo[]> {
	return asAuditOwner(admin, async () => {
		const { rows } = await admin.query<Omit<ApiKeyInfo, "tenants"> & { tenantIds: string[] | null }>(
			`SELECT id, name, role, tenant_ids AS "tenantIds", created_at AS "createdAt"
			 FROM audit.api_keys ORDER BY created_at, id`,
		);
		return rows.map(({ tenantIds, ...info }) => ({ ...info, tenants: tenantIds ?? "all" }));
	});
}

/**
 * Takes a key away. Services that know it take it for `KEY_KEPT_MS` more.
 *
 * @param admin as for `createApiKey`
 * @returns the key's name, or undefined if there is none with this id
 */
export async function revokeApiKey(admin: pg.ClientBase, id: string): Promise<string | undefined> {
	return asAuditOwner(admin, async () => {
		const { rows } = await admin.query<{ name: string }>("DELETE FROM audit.api_keys WHERE id = $1 RETURNING name", [
			id,
		]);
		return rows[0]?.name;
	});
}

async function asAuditOwner<T>(admin: pg.ClientBase, work: () => Promise<T>): Promise<T> {
	await admin.query("BEGIN");
	try {
		await admin.query("SET LOCAL ROLE audit_owner");
		const result = await work();
		await admin.query("COMMIT");
		return result;
	} catch (error) {
		await admin.query("ROLLBACK").catch(() => {});
		throw error;
	}
}
