import { createHmac, type KeyObject } from "node:crypto";
import { sha256 } from "./sha256.ts";

/**
 * The manifest of a batch, in the byte formats "AL1": all leaf hashes of one transaction, by tenant, chained to the
 * batch before. One shard, several writers: shard and source positions are 0.
 */

/** The leaves of one tenant in one batch, in the order they were appended. */
export interface ManifestRun {
	/** The tenant's number. */
	readonly slot: bigint;
	/** 32 bytes each. */
	readonly leafHashes: readonly Uint8Array[];
}

export const FIRST_CHAIN: Uint8Array = new Uint8Array(32);
const HASH_BYTES = 32;
const RUN_HEAD_BYTES = 12;

/** @param runs in ascending order of their slots. */
export function encodePayload(runs: readonly ManifestRun[]): Uint8Array {
	const leaves = runs.reduce((sum, run) => sum + run.leafHashes.length, 0);
	const bytes = Buffer.allocUnsafe(runs.length * RUN_HEAD_BYTES + leaves * HASH_BYTES);
	let at = 0;
	for (const run of runs) {
		at = bytes.writeBigUInt64BE(run.slot, at);
		at = bytes.writeUInt32BE(run.leafHashes.length, at);
		for (const leaf of run.leafHashes) {
			bytes.set(leaf, at);
			at += HASH_BYTES;
		}
	}
	return bytes;
}

/** Undefined if the bytes are not a payload: a run cut short, trailing bytes, slots out of order. */
export function decodePayload(payload: Uint8Array): ManifestRun[] | undefined {
	const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
	const runs: ManifestRun[] = [];
	let at = 0;
	let previous = -1n;
	while (at < bytes.length) {
		if (at + RUN_HEAD_BYTES > bytes.length) return undefined;
		const slot = bytes.readBigUInt64BE(at);
		const count = bytes.readUInt32BE(at + 8);
		at += RUN_HEAD_BYTES;
		if (slot <= previous || count === 0 || at + count * HASH_BYTES > bytes.length) return undefined;
		const leafHashes = Array.from({ length: count }, (_, i) =>
			bytes.subarray(at + i * HASH_BYTES, at + (i + 1) * HASH_BYTES),
		);
		runs.push({ slot, leafHashes });
		at += count * HASH_BYTES;
		previous = slot;
	}
	return runs;
}

/**
 * SHA-256("AL1b" ‖ u16 shard ‖ u64 batch id ‖ u64 first ‖ u64 last source position ‖ payload).
 *
 * @param source the positions in the source the batch was read from; 0 where, as here, several writers share one source
 */
export function manifestDigest(batchId: bigint, payload: Uint8Array, source = { first: 0n, last: 0n }): Uint8Array {
	const head = Buffer.alloc(4 + 2 + 3 * 8);
	head.write("AL1b", 0, "latin1");
	head.writeBigInt64BE(batchId, 6);
	head.writeBigInt64BE(source.first, 14);
	head.writeBigInt64BE(source.last, 22);
	return sha256(Buffer.concat([head, payload]));
}

/**
 * HMAC-SHA256 of the chain, which commits to the number, the digest and all batches before: whoever rewrites the chain
 * inside the database, takes a batch out or puts two in another order, lacks the key.
 */
export function manifestMac(key: KeyObject, chain: Uint8Array): Uint8Array {
	return createHmac("sha256", key).update("AL1h").update(chain).digest();
}

/** SHA-256("AL1c" ‖ u16 shard ‖ u64 number ‖ the chain before ‖ digest); the function append_batch compares. */
export function nextChain(batchNo: bigint, previous: Uint8Array, digest: Uint8Array): Uint8Array {
	const head = Buffer.alloc(4 + 2 + 8);
	head.write("AL1c", 0, "latin1");
	head.writeBigInt64BE(batchNo, 6);
	return sha256(Buffer.concat([head, previous, digest]));
}
