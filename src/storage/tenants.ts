import type { KeyObject } from "node:crypto";
import type { TenantId } from "../event/event.ts";
import { ActorType, Category } from "../gen/audit/v1/event_pb.ts";
import { type ChainHead, formBatch, writeManifest } from "./batch.ts";
import { asUnavailable, type Database } from "./db.ts";
import type { Partitions } from "./partitions.ts";
import { type EventRow, HASH_VERSION } from "./row.ts";
import { serviceEvent } from "./service-event.ts";
import { storeRows } from "./store-rows.ts";
import { asRejection, CommitUnknown, writeTransaction } from "./transaction.ts";

export interface TenantsOptions {
	readonly db: Database;
	readonly partitions: Partitions;
	readonly manifestKey: KeyObject;
	readonly contentMacKey: KeyObject;
	readonly onAppended: (head: ChainHead) => void;
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
		const row = firstEvent(tenantId, name, this.#options.contentMacKey);
		try {
			await this.#options.partitions.ensure([row.event.occurredAt]);
			const head = await writeTransaction(this.#options.db, async (client) => {
				const { rows } = await client.query<{ slot: string | null }>("SELECT audit.create_tenant($1, $2) AS slot", [
					tenantId,
					name,
				]);
				const slot = rows[0]?.slot;
				if (slot === null || slot === undefined) return undefined;
				const batch = formBatch([row], () => BigInt(slot));
				await storeRows(this.#options.db, client, batch.placed);
				return await writeManifest(client, batch, this.#options.manifestKey);
			});
			if (head) this.#options.onAppended(head);
		} catch (error) {
			if (!(error instanceof CommitUnknown) || !(await this.exists(tenantId))) throw asRejection(error);
		}
		await this.exists(tenantId);
	}
}

function firstEvent(tenantId: TenantId, name: string, macKey: KeyObject): EventRow {
	const input = {
		action: "audit.log.created",
		category: Category.SYSTEM,
		actor: { type: ActorType.SYSTEM, id: "auditlog" },
		primaryResource: { type: "tenant", id: tenantId, displayName: name },
		metadata: { hash_version: HASH_VERSION },
	};
	return serviceEvent(tenantId, input, macKey);
}
