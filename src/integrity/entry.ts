import { sha256 } from "./sha256.ts";

/**
 * The byte formats "AL1", version 1: how one event becomes one leaf. All integers are big-endian. Frozen by golden
 * vectors (`test/vectors`): a second version gets a new version byte and a new builder, and this one stays for ever.
 */

export interface EntryUnit {
	/** `[a-z0-9_.]{1,63}` */
	readonly path: string;
	/** Whether the unit can be erased (all but `facts`). */
	readonly erasable: boolean;
	readonly commitment: Uint8Array;
}

export interface Entry {
	readonly kind: number;
	/** 16 bytes. */
	readonly eventId: Uint8Array;
	/** Microseconds since 1970, by the service's clock. */
	readonly recordedAt: bigint;
	/** Microseconds since 1970, as claimed by the caller. */
	readonly occurredAt: bigint;
	/** ASCII, at most 127 bytes. */
	readonly action: string;
	/** In strictly ascending order of their paths' bytes. */
	readonly units: readonly EntryUnit[];
}

const HASH_BYTES = 32;
export const SALT_BYTES = 16;

/**
 * What the log keeps for ever of one unit: SHA-256("AL1u" ‖ salt ‖ u8 length ‖ path ‖ value). The salt (16 random
 * bytes, one per unit) hides the value: once both are erased, nothing can be guessed from the commitment.
 *
 * @param value the exact RFC 8785 text that is stored
 */
export function commit(path: string, salt: Uint8Array, value: string): Uint8Array {
	const head = 4 + SALT_BYTES + 1 + path.length;
	const bytes = Buffer.allocUnsafe(head + Buffer.byteLength(value));
	bytes.write("AL1u", 0, "latin1");
	bytes.set(salt, 4);
	bytes[4 + SALT_BYTES] = path.length;
	bytes.write(path, 4 + SALT_BYTES + 1, "latin1");
	bytes.write(value, head, "utf8");
	return sha256(bytes);
}

/** The leaf data: header fields and commitments. */
export function encodeEntry(entry: Entry): Uint8Array {
	// Either would be cut off below without a trace, and two different events would have one leaf.
	if (!/^[\x20-\x7e]{1,127}$/.test(entry.action)) throw new Error("an entry's action must be ASCII");
	if (entry.kind < 0 || entry.kind > 255) throw new Error("an entry's kind must fit a byte");
	let size = 35 + entry.action.length + 1;
	for (const unit of entry.units) size += 2 + unit.path.length + HASH_BYTES;
	const bytes = Buffer.allocUnsafe(size);
	let at = 0;
	bytes[at++] = 1;
	bytes[at++] = entry.kind;
	bytes.set(entry.eventId, at);
	at = bytes.writeBigInt64BE(entry.recordedAt, at + 16);
	at = bytes.writeBigInt64BE(entry.occurredAt, at);
	bytes[at++] = entry.action.length;
	at += bytes.write(entry.action, at, "latin1");
	bytes[at++] = entry.units.length;
	for (const unit of entry.units) {
		bytes[at++] = unit.erasable ? 1 : 0;
		bytes[at++] = unit.path.length;
		at += bytes.write(unit.path, at, "latin1");
		bytes.set(unit.commitment, at);
		at += HASH_BYTES;
	}
	return bytes;
}

/** RFC 6962: SHA-256(0x00 ‖ entry). */
export function leafHash(entry: Uint8Array): Uint8Array {
	const bytes = Buffer.allocUnsafe(1 + entry.length);
	bytes[0] = 0;
	bytes.set(entry, 1);
	return sha256(bytes);
}
