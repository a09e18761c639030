import { type KeyObject, randomBytes } from "node:crypto";
import type pg from "pg";
import type { AppendedEvent } from "../event/event.ts";
import { encodePayload, type ManifestRun, manifestDigest, manifestMac, nextChain } from "../integrity/manifest.ts";
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

/**
 * Writes the manifest: the last thing before COMMIT, because from its first statement on the batch holds the lock that
 * orders commits.
 */
export async function writeManifest(client: pg.PoolClient, batch: Batch, macKey: KeyObject): Promise<ChainHead> {
	const payload = encodePayload(batch.runs);
	const digest = manifestDigest(batch.id, payload);
	const { rows } = await client.query<{ next_no: string; previous_chain: Buffer }>("SELECT * FROM audit.lock_chain()");
	const [place] = rows;
	if (!place) throw new Error("lock_chain answered nothing");
	const batchNo = BigInt(place.next_no);
	const chain = nextChain(batchNo, place.previous_chain, digest);
	const mac = manifestMac(macKey, chain);
	const values = [batchNo, batch.id, batch.placed.length, digest, chain, mac, payload];
	await client.query("SELECT audit.append_batch($1, $2, $3, $4, $5, $6, $7)", values);
	return { batchNo, batchId: batch.id, chain, events: batch.placed.length };
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
