import type pg from "pg";
import { AuditError } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import { asUnavailable } from "../storage/db.ts";
import { type ApiKey, isSecretOf } from "./api-keys.ts";
import { type MaskableUnit, maskedUnitsOf, type Principal, type Role } from "./principal.ts";
import type { DerivedKeys } from "./secret.ts";
import { unauthenticated } from "./unauthenticated.ts";

/** What the store knows of a key. */
export interface StoredApiKey {
	readonly secretHash: Uint8Array;
	/** The id of the key that was made first for the same identity. */
	readonly identity: string;
	readonly name: string;
	readonly role: Role;
	readonly tenants: ReadonlySet<TenantId> | "all";
	/** What it is denied besides what its role is denied. */
	readonly maskedUnits: readonly MaskableUnit[];
	/** Milliseconds since 1970. */
	readonly expiresAt: number | undefined;
}

export type FindApiKey = (id: string) => Promise<StoredApiKey | undefined>;

/** What is promised: so long after a key was taken away it begins no call, and the streams it began have ended. */
export const REVOKED_WITHIN_MS = 30_000;

/**
 * How long a key that was taken away may still begin calls, and a new one not yet. Half of what is promised: open streams
 * learn of it later than that (`rpc/while-authenticated.ts`).
 */
export const KEY_KEPT_MS = 15_000;
const MISSING_MS = 5_000;
/** Keys found and keys not found are kept apart: made-up ids cannot push real ones out. */
const CACHED_KEYS = 10_000;
/**
 * Look-ups under way at once of keys never found so far: a flood of made-up ones must not take every database connection.
 * Real ones are looked up again and again, and must not be kept out by it.
 */
const LOOKUPS = 64;

/**
 * Tells whose an API key is, if it is a good one.
 *
 * A key is looked up once and kept for a quarter of a minute; requests that come meanwhile share the look-up. No secret
 * is kept, and each request's is compared anew.
 */
export class ApiKeyVerifier {
	readonly #find: FindApiKey;
	readonly #keys: DerivedKeys;
	readonly #found = new ExpiringMap<StoredApiKey>(KEY_KEPT_MS, CACHED_KEYS);
	readonly #missing = new ExpiringMap<true>(MISSING_MS, CACHED_KEYS);
	readonly #underWay = new Map<string, Promise<StoredApiKey | undefined>>();
	readonly #onUsed: (keyId: string) => void;

	/** @param onUsed told of each use of a key that is good */
	constructor(find: FindApiKey, keys: DerivedKeys, onUsed: (keyId: string) => void = () => {}) {
		this.#find = find;
		this.#keys = keys;
		this.#onUsed = onUsed;
	}

	/** @throws AuditError `unauthenticated`, the same for every cause; `unavailable` if keys cannot be looked up */
	async verify(key: ApiKey): Promise<Principal> {
		const known = await this.#lookUp(key.id);
		// An unknown key is compared too: how long the answer takes must not tell whether the id exists.
		const matches = isSecretOf(this.#keys, key, known?.secretHash ?? NO_HASH);
		if (!known || !matches || (known.expiresAt ?? Infinity) <= Date.now()) throw unauthenticated();
		this.#onUsed(key.id);
		const roles = new Set([known.role]);
		return {
			kind: "api_key",
			id: known.identity,
			keyId: key.id,
			name: known.name,
			roles,
			tenants: known.tenants,
			maskedUnits: maskedUnitsOf(roles, known.maskedUnits),
			expiresAt: known.expiresAt,
		};
	}

	async #lookUp(id: string): Promise<StoredApiKey | undefined> {
		const found = this.#found.get(id);
		if (found || this.#missing.get(id)) return found;
		let lookUp = this.#underWay.get(id);
		if (!lookUp) {
			if (this.#underWay.size >= LOOKUPS && !this.#found.remembers(id)) throw overloaded();
			lookUp = this.#findOnce(id);
			this.#underWay.set(id, lookUp);
		}
		return lookUp;
	}

	async #findOnce(id: string): Promise<StoredApiKey | undefined> {
		// What a look-up finds is true for its beginning, and not for its end.
		const askedAt = performance.now();
		try {
			const known = await this.#find(id);
			if (known) this.#found.set(id, known, askedAt);
			else {
				this.#found.delete(id);
				this.#missing.set(id, true, askedAt);
			}
			return known;
		} finally {
			this.#underWay.delete(id);
		}
	}
}

const NO_HASH = new Uint8Array(32);

/** Looks keys up as the reader role, through the one function it has for this. */
export function findApiKeyIn(reader: pg.Pool): FindApiKey {
	return async (id) => {
		const { rows } = await reader
			.query<StoredKeyRow>(
				"SELECT secret_hash, identity, name, role, tenant_ids, masked_units, expires_at FROM audit.find_api_key($1)",
				[id],
			)
			.catch((error: unknown) => {
				throw asUnavailable(error);
			});
		const [row] = rows;
		if (!row) return undefined;
		return {
			secretHash: row.secret_hash,
			identity: row.identity,
			name: row.name,
			role: row.role,
			tenants: row.tenant_ids ? new Set(row.tenant_ids) : "all",
			maskedUnits: row.masked_units,
			expiresAt: row.expires_at?.getTime(),
		};
	};
}

interface StoredKeyRow {
	readonly secret_hash: Buffer;
	readonly identity: string;
	readonly name: string;
	readonly role: Role;
	readonly tenant_ids: TenantId[] | null;
	readonly masked_units: MaskableUnit[];
	readonly expires_at: Date | null;
}

function overloaded(): AuditError {
	return new AuditError("resource_exhausted", "too many keys are being checked; try again", {
		reason: "KEY_LOOKUPS_FULL",
		retryAfterMs: 500,
	});
}

/** A map whose entries are good for a time. They are forgotten, the oldest first, when there are too many. */
class ExpiringMap<T> {
	readonly #entries = new Map<string, { value: T; until: number }>();
	readonly #lifeMs: number;
	readonly #limit: number;

	constructor(lifeMs: number, limit: number) {
		this.#lifeMs = lifeMs;
		this.#limit = limit;
	}

	get(key: string): T | undefined {
		const entry = this.#entries.get(key);
		return entry && entry.until > performance.now() ? entry.value : undefined;
	}

	/** Whether there is an entry, good or no longer. */
	remembers(key: string): boolean {
		return this.#entries.has(key);
	}

	delete(key: string): void {
		this.#entries.delete(key);
	}

	/** @param from when its life began, by `performance.now()` */
	set(key: string, value: T, from: number): void {
		this.#entries.delete(key);
		this.#entries.set(key, { value, until: from + this.#lifeMs });
		if (this.#entries.size <= this.#limit) return;
		for (const oldest of this.#entries.keys()) {
			this.#entries.delete(oldest);
			return;
		}
	}
}
