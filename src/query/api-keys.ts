import type { KeyObject } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { KEY_COLUMNS, type KeyInfo, type KeyRow, keyOfRow } from "../auth/key-info.ts";
import type { MaskableUnit, Role } from "../auth/principal.ts";
import type { EventId, Micros, TenantId } from "../event/event.ts";
import { rfc3339, timestampOf } from "../event/time.ts";
import { MASKABLE } from "../event/unit.ts";
import { type ApiKey, ApiKeySchema, Role as RoleNumber } from "../gen/audit/v1/access_service_pb.ts";
import type { Unit } from "../gen/audit/v1/event_pb.ts";
import { type Database, inKeys, type Scope } from "../storage/db.ts";
import { type Cursor, issuePageToken, openPageToken, type Paged } from "./page-token.ts";

export interface KeyQueryOptions {
	readonly db: Database;
	/** `DerivedKeys.pageTokens`. */
	readonly pageTokenKey: KeyObject;
}

/** A list that passed all checks. */
export interface KeyList {
	/** Only keys that are good for this tenant. */
	readonly tenantId: TenantId | undefined;
	readonly includeInactive: boolean;
	/** 0: the usual. */
	readonly pageSize: number;
	readonly pageToken: string;
}

const PAGE_SIZE = { fallback: 50, most: 200 } as const;

/** Lists API keys. Whose, and who may ask, is for access control to say. */
export class KeyQuery {
	readonly #db: Database;
	readonly #pageTokenKey: KeyObject;

	constructor({ db, pageTokenKey }: KeyQueryOptions) {
		this.#db = db;
		this.#pageTokenKey = pageTokenKey;
	}

	/**
	 * One page of the keys all of whose tenants are in the scope, the newest first: a key's place in that order never changes,
	 * so none is repeated or skipped. One row more than the page holds tells whether there is another page.
	 *
	 * @throws AuditError invalid_argument for a page token of another list, unavailable
	 */
	async list(asked: KeyList, scope: Scope): Promise<{ keys: KeyInfo[]; nextPageToken: string }> {
		const filter = filterOf(asked, scope);
		const after = asked.pageToken ? openPageToken(this.#pageTokenKey, filter, asked.pageToken, Date.now()) : undefined;
		const { rows } = await inKeys(this.#db, scope, (client) =>
			client.query<KeyRow>(LIST, [
				filter.tenantId ?? null,
				filter.includeInactive,
				after ? rfc3339(after.occurredAt) : null,
				after ? keyIdOf(after) : null,
				filter.pageSize + 1,
			]),
		);
		const keys = rows.slice(0, filter.pageSize).map(keyOfRow);
		const last = keys.at(-1);
		const more = rows.length > keys.length && last !== undefined;
		return { keys, nextPageToken: more ? issuePageToken(this.#pageTokenKey, filter, cursorOf(last), Date.now()) : "" };
	}

	/** Whether there is such a key in the scope, good or not. @throws AuditError unavailable */
	async has(id: string, scope: Scope): Promise<boolean> {
		const { rowCount } = await inKeys(this.#db, scope, (client) =>
			client.query("SELECT FROM audit.api_keys WHERE id = $1", [id]),
		);
		return rowCount === 1;
	}
}

const LIST = `
	SELECT ${KEY_COLUMNS} FROM audit.api_keys
	WHERE ($1::text IS NULL OR tenant_ids IS NULL OR $1 = ANY (tenant_ids))
	  AND ($2 OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())))
	  AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::text))
	ORDER BY created_at DESC, id DESC
	LIMIT $5`;

/** Page tokens are bound to all of it but the page's size. */
interface KeyFilter extends Paged {
	/** Tells these tokens from those of other lists. */
	readonly kind: "API keys";
	readonly scope: readonly TenantId[] | "all";
	readonly tenantId?: TenantId;
	readonly includeInactive: boolean;
}

function filterOf({ tenantId, includeInactive, pageSize }: KeyList, scope: Scope): KeyFilter {
	return {
		kind: "API keys",
		scope: scope === "all" ? "all" : [...scope].sort(),
		pageSize: Math.min(pageSize || PAGE_SIZE.fallback, PAGE_SIZE.most),
		includeInactive,
		...(tenantId !== undefined && { tenantId }),
	};
}

/** A key's place in the form that tokens carry: a time, and 16 bytes that hold the id. */
function cursorOf({ createdAt, id }: KeyInfo): Cursor {
	return { occurredAt: createdAt, id: `00000000-0000-0000-0000-${id}` as EventId };
}

function keyIdOf({ id }: Cursor): string {
	return id.slice(-12);
}

const ROLE_NUMBERS = {
	writer: RoleNumber.WRITER,
	reader: RoleNumber.READER,
	exporter: RoleNumber.EXPORTER,
	auditor: RoleNumber.AUDITOR,
	tenant_admin: RoleNumber.TENANT_ADMIN,
	operator: RoleNumber.OPERATOR,
} as const satisfies Record<Role, RoleNumber>;

/** @returns undefined for a number that is none's */
export function roleOf(number: RoleNumber): Role | undefined {
	return (Object.keys(ROLE_NUMBERS) as Role[]).find((role) => ROLE_NUMBERS[role] === number);
}

/** @returns undefined for a number that is none's */
export function unitOf(number: Unit): MaskableUnit | undefined {
	return (Object.keys(MASKABLE) as MaskableUnit[]).find((unit) => MASKABLE[unit] === number);
}

/** A key as callers see it. */
export function renderKey(key: KeyInfo): ApiKey {
	const time = (name: string, micros: Micros | undefined) =>
		micros === undefined ? {} : { [name]: timestampOf(micros) };
	return create(ApiKeySchema, {
		id: key.id,
		name: key.name,
		role: ROLE_NUMBERS[key.role],
		tenantIds: key.tenants === "all" ? [] : [...key.tenants],
		allTenants: key.tenants === "all",
		maskedUnits: key.maskedUnits.map((unit) => MASKABLE[unit]),
		identity: key.identity,
		createdAt: timestampOf(key.createdAt),
		createdBy: key.createdBy,
		...time("expiresAt", key.expiresAt),
		...time("lastUsedAt", key.lastUsedAt),
		...time("revokedAt", key.revokedAt),
	});
}
