import { randomBytes } from "node:crypto";
import type pg from "pg";
import type { AppendedEvent } from "../event/event.ts";
import { encodePayload, type ManifestRun, manifestDigest, manifestMac } from "../integrity/manifest.ts";
import type { PlacedRow } from "./copy.ts";
import type { EventRow } from "./row.ts";

/** The newest link of the manifest chain: what a copy outside the database needs to hold. */
export interface ChainHead {
	readonly batchNo: bigint;
	readonly batchId: bigint;
	readonly chain: Uint8Array;
	readonly events: number;
}

/** The rows of one transaction in the order they are appended, and where their tenants stand. */
export interface Batch {
	readonly id: bigint;
	readonly placed: readonly PlacedRow[];
	readonly runs: readonly ManifestRun[];
}

/** Orders rows by tenant slot (keeping their order within a tenant) and places them in a batch of a new id. */
export function formBatch(rows: readonly EventRow[], slotOf: (row: EventRow) => bigint): Batch {
	const id = newBatchId();
	const bySlot = Map.groupBy(rows, slotOf);
	const slots = [...bySlot.keys()].sort((a, b) => (a < b ? -1 : 1));
	const runs = slots.map((slot) => ({ slot, leafHashes: (bySlot.get(slot) ?? []).map((row) => row.leafHash) }));
	const ordered = slots.flatMap((slot) => bySlot.get(slot) ?? []);
	return { id, runs, placed: ordered.map((row, ord) => ({ row, batchId: id, ord })) };
}

/** Writes the manifest: must be the last statement before COMMIT, because it takes the lock that orders commits. */
export async function writeManifest(client: pg.PoolClient, batch: Batch, macKey: Uint8Array): Promise<ChainHead> {
	const payload = encodePayload(batch.runs);
	const digest = manifestDigest(batch.id, payload);
	const { rows } = await client.query<{ o_batch_no: string; o_chain: Buffer }>(
		"SELECT * FROM audit.append_batch($1, $2, $3, $4, $5)",
		[batch.id, batch.placed.length, digest, manifestMac(macKey, digest), payload],
	);
	const [head] = rows;
	if (!head) throw new Error("append_batch answered nothing");
	return { batchNo: BigInt(head.o_batch_no), batchId: batch.id, chain: head.o_chain, events: batch.placed.length };
}

/** The receipt of a row that is now committed. */
export function appended(row: EventRow, batchId: bigint): AppendedEvent {
	const { tenantId, id, occurredAt, recordedAt } = row.event;
	return { tenantId, id, occurredAt, recordedAt, batchId, leafHash: row.leafHash };
}

/**
 * A name for the batch, known before it is written: 42 bits of milliseconds, so that names grow with time, and 21
 * random bits. Should two ever be equal, the manifests' unique index refuses the second, which is then tried again.
 */
function newBatchId(): bigint {
	return (BigInt(Date.now()) << 21n) | BigInt(randomBytes(3).readUIntBE(0, 3) & 0x1fffff);
}
