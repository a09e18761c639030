import { AuditError } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import { asUnavailable, type Database } from "./db.ts";

/**
 * How often a replica asks which tenants are disabled. With the longest that asking may take, connecting included, it knows
 * within the half minute that the API promises.
 */
export const DISABLED_ASKED_MS = 5_000;

/**
 * The tenants that are disabled, as this replica knows them: asking costs no query.
 *
 * Never asked → known, and asked again every few seconds. What is known holds while the database is away, since nothing is
 * read or stored then; while nothing is known, nobody is let in.
 */
export class DisabledTenants {
	readonly #db: Database;
	#ids: Set<TenantId> | undefined;
	/** How often this replica itself has changed one: an answer asked for before may not know of it. */
	#changes = 0;
	#asking: Promise<Set<TenantId>> | undefined;

	constructor(db: Database) {
		this.#db = db;
	}

	/** @throws AuditError unavailable, if it was never known */
	async has(tenantId: TenantId): Promise<boolean> {
		return (this.#ids ?? (await this.#askOnce())).has(tenantId);
	}

	/** Asks the database. A database that is away is told of elsewhere: what is known goes on to hold. */
	async refresh(): Promise<void> {
		await this.#askOnce().catch((error: unknown) => {
			if (!(error instanceof AuditError) || error.code !== "unavailable") throw error;
		});
	}

	/** This replica has changed one: here it holds at once. To be called when the change is committed. */
	note(tenantId: TenantId, isDisabled: boolean): void {
		this.#changes += 1;
		if (isDisabled) this.#ids?.add(tenantId);
		else this.#ids?.delete(tenantId);
	}

	/** Whoever comes while the database is being asked waits for the same answer. */
	#askOnce(): Promise<Set<TenantId>> {
		this.#asking ??= this.#ask().finally(() => {
			this.#asking = undefined;
		});
		return this.#asking;
	}

	async #ask(): Promise<Set<TenantId>> {
		try {
			for (;;) {
				const changes = this.#changes;
				// Not by the reader's connections: slow searches must not keep it from being known.
				const { rows } = await this.#db.keys.query<{ id: TenantId }>("SELECT audit.disabled_tenants() AS id");
				if (changes !== this.#changes) continue;
				this.#ids = new Set(rows.map(({ id }) => id));
				return this.#ids;
			}
		} catch (error) {
			throw asUnavailable(error);
		}
	}
}
