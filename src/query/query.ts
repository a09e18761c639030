import type { KeyObject } from "node:crypto";
import type { MaskableUnit } from "../auth/principal.ts";
import { tenantNotFound } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import type { GetEventRequest, QueryRequest } from "../gen/audit/v1/audit_service_pb.ts";
import type { Event } from "../gen/audit/v1/event_pb.ts";
import { type Database, inTenant } from "../storage/db.ts";
import { type Asked, askedBy } from "./asked.ts";
import { parseSearch } from "./filter.ts";
import { getEvent, parseEventKey } from "./get.ts";
import { issuePageToken, openPageToken } from "./page-token.ts";
import { PAGE_LIMITS, type PageLimits, search } from "./search.ts";

export interface QueryOptions {
	readonly db: Database;
	/** `DerivedKeys.pageTokens`. */
	readonly pageTokenKey: KeyObject;
	readonly limits?: PageLimits;
	/** Milliseconds since 1970. */
	readonly now?: () => number;
}

export interface QueryPage {
	readonly events: Event[];
	readonly nextPageToken: string;
	readonly asked: Asked;
}

/**
 * Answers questions about a tenant's events. The tenant is the one access control resolved, whatever the request says; what is
 * masked for the caller is neither answered nor asked for.
 */
export class Query {
	readonly #db: Database;
	readonly #pageTokenKey: KeyObject;
	readonly #limits: PageLimits;
	readonly #now: () => number;

	constructor({ db, pageTokenKey, limits = PAGE_LIMITS, now = Date.now }: QueryOptions) {
		this.#db = db;
		this.#pageTokenKey = pageTokenKey;
		this.#limits = limits;
		this.#now = now;
	}

	/**
	 * One page.
	 *
	 * @throws AuditError permission_denied for filters of masked units, invalid_argument with every violation,
	 * deadline_exceeded, unavailable
	 */
	async search(request: QueryRequest, tenantId: TenantId, masked: ReadonlySet<MaskableUnit>): Promise<QueryPage> {
		const checked = parseSearch(request, tenantId, masked);
		const { pageToken } = request;
		const cursor = pageToken ? openPageToken(this.#pageTokenKey, checked, pageToken, this.#now()) : undefined;
		const { events, next } = await search(this.#db, checked, cursor, this.#limits);
		// A misspelt tenant must not look like one whose log is clean.
		if (events.length === 0 && !cursor) await this.#mustExist(tenantId);
		const nextPageToken = next ? issuePageToken(this.#pageTokenKey, checked, next, this.#now()) : "";
		return { events, nextPageToken, asked: askedBy(request, checked) };
	}

	async #mustExist(tenantId: TenantId): Promise<void> {
		const found = await inTenant(this.#db, tenantId, (client) =>
			client.query("SELECT FROM audit.tenants WHERE id = $1", [tenantId]),
		);
		if (found.rowCount === 0) throw tenantNotFound();
	}

	/** One event. @throws AuditError invalid_argument with every violation, not_found, failed_precondition, unavailable */
	async get(request: GetEventRequest, tenantId: TenantId, masked: ReadonlySet<MaskableUnit>): Promise<Event> {
		return getEvent(this.#db, parseEventKey(request, tenantId), masked);
	}
}
