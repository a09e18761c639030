import type { Micros, TenantId } from "../event/event.ts";
import { microsOfColumn, microsSql } from "../storage/stored-row.ts";
import type { Rights } from "./grant.ts";
import type { MaskableUnit, Role } from "./principal.ts";

/** What may be shown of a key: neither its secret, which is not stored, nor the hash of it. */
export interface KeyInfo extends Rights {
	readonly id: string;
	/** The id of the key that was made first for the same identity. */
	readonly identity: string;
	/** For people; may be personal. */
	readonly name: string;
	readonly createdAt: Micros;
	/** The principal's id, or `cli`. */
	readonly createdBy: string;
	/** undefined: never, also below. */
	readonly expiresAt: Micros | undefined;
	/** To about a minute. */
	readonly lastUsedAt: Micros | undefined;
	readonly revokedAt: Micros | undefined;
}

export interface KeyRow {
	readonly id: string;
	readonly identity: string;
	readonly name: string;
	readonly role: Role;
	readonly tenant_ids: TenantId[] | null;
	readonly masked_units: MaskableUnit[];
	readonly created_us: string;
	readonly created_by: string;
	readonly expires_us: string | null;
	readonly last_used_us: string | null;
	readonly revoked_us: string | null;
}

/** What a `KeyRow` is read with, from `audit.api_keys` or a function that gives the like. */
export const KEY_COLUMNS = `id, identity, name, role, tenant_ids, masked_units, created_by,
	${microsSql("created_at")} AS created_us, ${microsSql("expires_at")} AS expires_us,
	${microsSql("last_used_at")} AS last_used_us, ${microsSql("revoked_at")} AS revoked_us`;

export function keyOfRow(row: KeyRow): KeyInfo {
	return {
		id: row.id,
		identity: row.identity,
		name: row.name,
		role: row.role,
		tenants: row.tenant_ids ? new Set(row.tenant_ids) : "all",
		maskedUnits: row.masked_units,
		createdAt: microsOfColumn(row.created_us),
		createdBy: row.created_by,
		expiresAt: microsOrNever(row.expires_us),
		lastUsedAt: microsOrNever(row.last_used_us),
		revokedAt: microsOrNever(row.revoked_us),
	};
}

function microsOrNever(column: string | null): Micros | undefined {
	return column === null ? undefined : microsOfColumn(column);
}
