import type { KeyObject } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PoolClient } from "pg";
import type { TenantId } from "../event/event.ts";
import { microsOfDate } from "../event/time.ts";
import type { EventSchema } from "../gen/audit/v1/event_pb.ts";
import { type ChainHead, formBatch, writeManifest } from "./batch.ts";
import type { Database } from "./db.ts";
import { isMissingPartition } from "./insert.ts";
import type { Partitions } from "./partitions.ts";
import type { EventRow } from "./row.ts";
import { serviceEvent } from "./service-event.ts";
import { storeRows } from "./store-rows.ts";
import { asRejection, writeTransaction } from "./transaction.ts";

export interface ServiceLogOptions {
	readonly db: Database;
	readonly partitions: Partitions;
	readonly manifestKey: KeyObject;
	readonly contentMacKey: KeyObject;
	/** Told of every committed batch: a hint, never waited for. */
	readonly onAppended: (head: ChainHead) => void;
}

/** An event the service itself has to tell, and whose log it goes to. */
export interface Told {
	readonly tenantId: TenantId;
	readonly event: MessageInitShape<typeof EventSchema>;
}

type Change<T> = (client: PoolClient) => Promise<{ readonly result: T; readonly told: readonly Told[] }>;

/** What the service itself does, told in the logs of the tenants it concerns: in the transaction it is done in. */
export class ServiceLog {
	readonly #options: ServiceLogOptions;

	constructor(options: ServiceLogOptions) {
		this.#options = options;
	}

	/**
	 * Makes a change and tells of it, both or neither. Who does not exist cannot be told: events of unknown tenants are left
	 * out.
	 *
	 * @param change runs inside the writer's transaction, in another one again if nothing came of the first; says what came of
	 * it, and what is to be told
	 * @throws AuditError unavailable: with CommitUnknown as its cause if it may have been made after all
	 */
	async change<T>(change: Change<T>): Promise<T> {
		const { partitions } = this.#options;
		try {
			return await this.#try(change).catch((error: unknown) => {
				if (!isMissingPartition(error)) throw error;
				// Somebody dropped a partition that was known. Nothing of the change is there.
				partitions.forget();
				return this.#try(change);
			});
		} catch (error) {
			throw asRejection(error);
		}
	}

	async #try<T>(change: Change<T>): Promise<T> {
		const { db, partitions, onAppended } = this.#options;
		let head: ChainHead | undefined;
		await partitions.ensure([microsOfDate(new Date())]);
		const result = await writeTransaction(db, async (client) => {
			const made = await change(client);
			head = await this.#store(client, made.told);
			return made.result;
		});
		// At this point the change and its events are durable.
		if (head) onAppended(head);
		return result;
	}

	async #store(client: PoolClient, told: readonly Told[]): Promise<ChainHead | undefined> {
		const slots = await slotsOf(client, new Set(told.map(({ tenantId }) => tenantId)));
		const slotOf = (row: EventRow) => slots.get(row.event.tenantId) as bigint;
		const rows = told
			.filter(({ tenantId }) => slots.has(tenantId))
			.map(({ tenantId, event }) => serviceEvent(tenantId, event, this.#options.contentMacKey));
		if (rows.length === 0) return undefined;
		await this.#options.partitions.ensureFor(rows);
		const batch = formBatch(rows, slotOf);
		await storeRows(this.#options.db, client, batch.placed);
		return writeManifest(client, batch, this.#options.manifestKey);
	}
}

/** Asked in the transaction itself: it may have made the tenant. */
async function slotsOf(client: PoolClient, tenantIds: ReadonlySet<TenantId>): Promise<Map<TenantId, bigint>> {
	if (tenantIds.size === 0) return new Map();
	const { rows } = await client.query<{ id: TenantId; slot: string }>(
		"SELECT id, slot FROM audit.tenants WHERE id = ANY ($1)",
		[[...tenantIds]],
	);
	return new Map(rows.map(({ id, slot }) => [id, BigInt(slot)]));
}
