import { createHmac, type KeyObject, randomFillSync } from "node:crypto";
import type { EventId, Micros, TenantId } from "./event.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function isUuid(text: string): boolean {
	return UUID.test(text);
}

/** A new UUIDv7 whose millisecond is that of `occurredAt`; the rest is random. */
export function newEventId(occurredAt: Micros): EventId {
	return timedUuid(7, occurredAt, randomBytes());
}

/**
 * The id that stands for an idempotency key: UUIDv8 of the event's millisecond and an HMAC of tenant and key. The
 * secret matters: without it, whoever can guess a key could confirm the guess from an id, and ids are for ever.
 */
export function idOfIdempotencyKey(secret: KeyObject, tenantId: TenantId, key: string, occurredAt: Micros): EventId {
	// The tenant id cannot hold U+0000, so the pair is unambiguous.
	const mac = createHmac("sha256", secret).update(`idempotency\0${tenantId}\0${key}`).digest();
	return timedUuid(8, occurredAt, mac);
}

/** The id of an event that came without one from a place that has a name of its own, such as a NATS message. */
export function idOfPlace(secret: KeyObject, place: string, occurredAt: Micros): EventId {
	return timedUuid(8, occurredAt, createHmac("sha256", secret).update(`place\0${place}`).digest());
}

/** RFC 9562: 48 bits of Unix milliseconds, the version, the variant, and 74 bits of `bits`. */
function timedUuid(version: 7 | 8, occurredAt: Micros, bits: Uint8Array): EventId {
	const bytes = Buffer.alloc(16);
	bytes.writeUIntBE(Number(occurredAt / 1000n), 0, 6);
	bytes.set(bits.subarray(0, 10), 6);
	bytes[6] = (version << 4) | ((bytes[6] ?? 0) & 0x0f);
	bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
	const hex = bytes.toString("hex");
	return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}` as EventId;
}

// Random bytes are drawn in large pieces: one call per event would cost twenty times as much.
const pool = Buffer.alloc(16_384);
let used = pool.length;

function randomBytes(): Uint8Array {
	if (used + 10 > pool.length) {
		randomFillSync(pool);
		used = 0;
	}
	used += 10;
	return pool.subarray(used - 10, used);
}
