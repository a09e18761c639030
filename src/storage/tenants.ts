import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PoolClient } from "pg";
import { AuditError, tenantNotFound } from "../errors.ts";
import type { Micros, TenantId } from "../event/event.ts";
import type { ActorSchema } from "../gen/audit/v1/event_pb.ts";
import { asUnavailable, type Database } from "./db.ts";
import { DisabledTenants } from "./disabled-tenants.ts";
import type { ServiceLog, Told } from "./service-log.ts";
import { microsOfColumn, microsSql } from "./stored-row.ts";
import { firstEvent, renamedEvent, switchedEvent, type TenantOrigin } from "./tenant-events.ts";
import { CommitUnknown } from "./transaction.ts";

export interface TenantsOptions {
	readonly db: Database;
	readonly log: ServiceLog;
}

/** A tenant as it is now. */
export interface TenantState {
	readonly id: TenantId;
	readonly name: string;
	readonly createdAt: Micros;
	/** Since when; undefined: it is not disabled. */
	readonly disabledAt: Micros | undefined;
}

/** What a change came to. */
export interface TenantChange {
	/** What is there now. */
	readonly tenant: TenantState;
	/** Whether it was not so before. */
	readonly changed: boolean;
}

/** Who changes a tenant, as an event's actor. */
type Actor = MessageInitShape<typeof ActorSchema>;

const BY_COMMAND: TenantOrigin = { madeBy: "command line" };

/**
 * The tenants there are, and their slots: the numbers manifests name them by. Each change is an event of the tenant, in the
 * same transaction.
 */
export class Tenants {
	readonly #options: TenantsOptions;
	/** Tenants are never renumbered or removed, so what is known stays true. */
	readonly #slots = new Map<TenantId, bigint>();
	/** To be refreshed every few seconds by whoever serves. */
	readonly disabled: DisabledTenants;

	constructor(options: TenantsOptions) {
		this.#options = options;
		this.disabled = new DisabledTenants(options.db);
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

	/** Whether it is disabled, as known here. @throws AuditError unavailable, if that was never known */
	isDisabled(tenantId: TenantId): Promise<boolean> {
		return this.disabled.has(tenantId);
	}

	/** Makes a tenant that is not there, whatever one that is there is called. @throws AuditError unavailable */
	async ensure(tenantId: TenantId, name: string, origin: TenantOrigin = BY_COMMAND): Promise<void> {
		if (await this.exists(tenantId)) return;
		try {
			await this.#make(tenantId, name, origin);
		} catch (error) {
			const isUnknown = error instanceof AuditError && error.cause instanceof CommitUnknown;
			if (!isUnknown || !(await this.exists(tenantId))) throw error;
		}
		await this.exists(tenantId);
	}

	/**
	 * Makes a tenant, or finds it as it is.
	 *
	 * @param name undefined: the id, or whatever one that exists is called
	 * @throws AuditError already_exists if it has another name; unavailable
	 */
	async create(tenantId: TenantId, name?: string, origin: TenantOrigin = BY_COMMAND): Promise<TenantChange> {
		const made = await this.#make(tenantId, name ?? tenantId, origin);
		if (name !== undefined && made.tenant.name !== name) throw hasAnotherName();
		return made;
	}

	/**
	 * Makes a tenant and, in the same transaction, the first event of its log: `audit.log.created`. A tenant can be seen
	 * only after that commit, so no event of its own can come before. One that exists is left as it is.
	 */
	#make(tenantId: TenantId, name: string, origin: TenantOrigin): Promise<TenantChange> {
		return this.#options.log.change(async (client) => {
			const { rows } = await client.query<{ slot: string | null }>("SELECT audit.create_tenant($1, $2) AS slot", [
				tenantId,
				name,
			]);
			const isNew = typeof rows[0]?.slot === "string";
			const tenant = (await change(client, tenantId, {}))?.tenant;
			if (!tenant) throw new Error("a tenant that was made is not there");
			return { result: { tenant, changed: isNew }, told: isNew ? [firstEvent(tenant, origin)] : [] };
		});
	}

	/** Gives a tenant another name: `audit.tenant.renamed`. @throws AuditError not_found, unavailable */
	rename(tenantId: TenantId, name: string, actor: Actor): Promise<TenantChange> {
		return this.#change(tenantId, { name }, ({ tenant, oldName }) => renamedEvent(tenant, oldName, actor));
	}

	/**
	 * Disables or enables a tenant: `audit.tenant.disabled` or `enabled`. Here it holds when this resolves, in other replicas
	 * when they have asked again. What is being stored at this moment is stored.
	 *
	 * @param reason may be empty
	 * @throws AuditError not_found, unavailable
	 */
	async setDisabled(
		tenantId: TenantId,
		isDisabled: boolean,
		{ actor, reason }: { actor: Actor; reason: string },
	): Promise<TenantChange> {
		const done = await this.#change(tenantId, { isDisabled }, ({ tenant }) =>
			switchedEvent(tenant, { isDisabled, reason, actor }),
		);
		this.disabled.note(tenantId, isDisabled);
		return done;
	}

	/** The same again changes nothing, and nothing is told of it. */
	async #change(tenantId: TenantId, wanted: Wanted, tell: (changed: Changed) => Told): Promise<TenantChange> {
		const changed = await this.#options.log.change(async (client) => {
			const made = await change(client, tenantId, wanted);
			return { result: made, told: made?.changed ? [tell(made)] : [] };
		});
		// Not thrown inside: that would cost the connection.
		if (!changed) throw tenantNotFound();
		return { tenant: changed.tenant, changed: changed.changed };
	}
}

/** What is to be so from now on; what is left out stays as it is. */
interface Wanted {
	readonly name?: string;
	readonly isDisabled?: boolean;
}

interface Changed extends TenantChange {
	readonly oldName: string;
}

/** Locks the tenant until the transaction ends. @returns undefined if there is none */
async function change(
	client: PoolClient,
	tenantId: TenantId,
	{ name, isDisabled }: Wanted,
): Promise<Changed | undefined> {
	const { rows } = await client.query<ChangedRow>(
		`SELECT changed, old_name, name, ${microsSql("created_at")} AS created_us, ${microsSql("disabled_at")} AS disabled_us
		 FROM audit.change_tenant($1, $2, $3)`,
		[tenantId, name ?? null, isDisabled ?? null],
	);
	const [row] = rows;
	return row && { changed: row.changed, oldName: row.old_name, tenant: tenantOf({ ...row, id: tenantId }) };
}

/** A tenant as queries give it. */
export interface TenantRow {
	readonly id: TenantId;
	readonly name: string;
	readonly created_us: string;
	readonly disabled_us: string | null;
}

interface ChangedRow extends Omit<TenantRow, "id"> {
	readonly changed: boolean;
	readonly old_name: string;
}

export function tenantOf({ id, name, created_us, disabled_us }: TenantRow): TenantState {
	const disabledAt = disabled_us === null ? undefined : microsOfColumn(disabled_us);
	return { id, name, createdAt: microsOfColumn(created_us), disabledAt };
}

function hasAnotherName(): AuditError {
	return new AuditError("already_exists", "the tenant exists under another name; RenameTenant changes it", {
		reason: "TENANT_NAMED_OTHERWISE",
	});
}
