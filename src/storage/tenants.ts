import { AuditError } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import { ActorType, Category } from "../gen/audit/v1/event_pb.ts";
import { asUnavailable, type Database } from "./db.ts";
import { HASH_VERSION } from "./row.ts";
import type { ServiceLog, Told } from "./service-log.ts";
import { CommitUnknown } from "./transaction.ts";

export interface TenantsOptions {
	readonly db: Database;
	readonly log: ServiceLog;
}

/** The tenants there are, and their slots: the numbers manifests name them by. */
export class Tenants {
	readonly #options: TenantsOptions;
	/** Tenants are never renumbered or removed, so what is known stays true. */
	readonly #slots = new Map<TenantId, bigint>();

	constructor(options: TenantsOptions) {
		this.#options = options;
	}

	/** Whether the tenant exists. */
	async exists(tenantId: TenantId): Promise<boolean> {
		if (this.#slots.has(tenantId)) return true;
		try {
			const { rows } = await this.#options.db.writer.query<{ slot: string }>(
				"SELECT slot FROM audit.tenants WHERE id = $1",
				[tenantId],
			);
			const [row] = rows;
			if (row) this.#slots.set(tenantId, BigInt(row.slot));
			return row !== undefined;
		} catch (error) {
			throw asUnavailable(error);
		}
	}

	/** The slot of a tenant that `exists` has confirmed. */
	slotOf(tenantId: TenantId): bigint {
		const slot = this.#slots.get(tenantId);
		if (slot === undefined) throw new Error("the tenant's slot was asked for before the tenant was looked up");
		return slot;
	}

	/**
	 * Makes a tenant and, in the same transaction, the first event of its log: `audit.log.created`. A tenant can be seen
	 * only after that commit, so no event of its own can come before. Does nothing if the tenant exists.
	 */
	async create(tenantId: TenantId, name: string): Promise<void> {
		if (await this.exists(tenantId)) return;
		try {
			await this.#options.log.change(async (client) => {
				const { rows } = await client.query<{ slot: string | null }>("SELECT audit.create_tenant($1, $2) AS slot", [
					tenantId,
					name,
				]);
				const isNew = typeof rows[0]?.slot === "string";
				return { result: undefined, told: isNew ? [firstEvent(tenantId, name)] : [] };
			});
		} catch (error) {
			const isUnknown = error instanceof AuditError && error.cause instanceof CommitUnknown;
			if (!isUnknown || !(await this.exists(tenantId))) throw error;
		}
		await this.exists(tenantId);
	}
}

function firstEvent(tenantId: TenantId, name: string): Told {
	return {
		tenantId,
		event: {
			action: "audit.log.created",
			category: Category.SYSTEM,
			actor: { type: ActorType.SYSTEM, id: "auditlog" },
			primaryResource: { type: "tenant", id: tenantId, displayName: name },
			metadata: { hash_version: HASH_VERSION },
		},
	};
}
