import { createHash, type KeyObject } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import type { EventId, TenantId } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";
import { type Database, inTenants, type Scope } from "../storage/db.ts";
import { microsSql } from "../storage/stored-row.ts";
import { type TenantRow, type TenantState, tenantOf } from "../storage/tenants.ts";
import { type Cursor, issuePageToken, openPageToken, type Paged } from "./page-token.ts";

export interface TenantQueryOptions {
	readonly db: Database;
	/** `DerivedKeys.pageTokens`. */
	readonly pageTokenKey: KeyObject;
}

export interface TenantPage {
	readonly tenants: TenantState[];
	readonly nextPageToken: string;
}

/** Lists tenants. Which is for access control to say. */
export class TenantQuery {
	readonly #db: Database;
	readonly #pageTokenKey: KeyObject;

	constructor({ db, pageTokenKey }: TenantQueryOptions) {
		this.#db = db;
		this.#pageTokenKey = pageTokenKey;
	}

	/**
	 * One page, in the order in which the tenants were made: one that is made meanwhile comes after all others, so nothing is
	 * repeated or skipped between pages.
	 *
	 * @throws AuditError invalid_argument, unavailable
	 */
	async list(
		{ pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
		scope: Scope,
	): Promise<TenantPage> {
		if (pageSize < 0) {
			throw invalidArgument([{ field: "page_size", message: "must not be negative" }], "INVALID_QUERY");
		}
		const listing: TenantListing = {
			kind: "tenants",
			scope: scope === "all" ? "all" : [...scope].sort(),
			pageSize: Math.min(pageSize || PAGE_SIZE.fallback, PAGE_SIZE.most),
		};
		const cursor = pageToken ? openPageToken(this.#pageTokenKey, listing, pageToken, Date.now()) : undefined;
		const { rows } = await inTenants(this.#db, scope, (client) =>
			// One row more than the page holds tells whether there is another page.
			client.query<TenantRow>(LIST, [
				cursor && rfc3339(cursor.occurredAt),
				cursor && hashIn(cursor),
				listing.pageSize + 1,
			]),
		);
		const page = rows.slice(0, listing.pageSize);
		const last = page.at(-1);
		const more = rows.length > page.length && last !== undefined;
		return {
			tenants: page.map(tenantOf),
			nextPageToken: more ? issuePageToken(this.#pageTokenKey, listing, cursorOf(tenantOf(last)), Date.now()) : "",
		};
	}
}

/** A page must fit into an answer, also where every name is as long as it can be. */
const PAGE_SIZE = { fallback: 50, most: 500 } as const;

/** What page tokens are bound to. */
interface TenantListing extends Paged {
	/** Tells these tokens from those of searches. */
	readonly kind: "tenants";
	/** The tenants the caller may see. */
	readonly scope: readonly TenantId[] | "all";
}

const LIST = `
	SELECT t.id, coalesce(c.name, t.name) AS name, ${microsSql("t.created_at")} AS created_us,
	       ${microsSql("c.disabled_at")} AS disabled_us
	FROM audit.tenants t
	LEFT JOIN LATERAL (SELECT n.name, n.disabled_at FROM audit.tenant_changes n
	                   WHERE n.tenant_id = t.id ORDER BY n.change_no DESC LIMIT 1) c ON true
	WHERE $1::timestamptz IS NULL
	   OR t.slot > (SELECT p.slot FROM audit.tenants p
	                WHERE p.created_at = $1 AND substr(sha256(convert_to(p.id, 'UTF8')), 1, 16) = $2::bytea)
	ORDER BY t.slot LIMIT $3`;

/**
 * The place after a tenant, by what the caller has seen of it: a token can be read, and a slot would tell how many tenants
 * there are.
 */
function cursorOf({ id, createdAt }: TenantState): Cursor {
	const hash = createHash("sha256").update(id).digest("hex");
	const uuid = hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5");
	return { occurredAt: createdAt, id: uuid as EventId };
}

function hashIn({ id }: Cursor): Buffer {
	return Buffer.from(id.replaceAll("-", ""), "hex");
}
