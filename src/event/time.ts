import { create } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { EventId, Micros } from "./event.ts";

const MICROS = 1_000_000n;

/** Whether it is one of the years 1 to 9999, as google.protobuf.Timestamp has to be. */
export function isTimestamp({ seconds, nanos }: Timestamp): boolean {
	return nanos >= 0 && nanos <= 999_999_999 && seconds >= -62_135_596_800n && seconds <= 253_402_300_799n;
}

/** The microsecond a timestamp falls in: finer digits are cut off, never rounded. `nanos` must be 0 to 999,999,999. */
export function microsOf(timestamp: Timestamp): Micros {
	return (timestamp.seconds * MICROS + BigInt(Math.floor(timestamp.nanos / 1000))) as Micros;
}

export function timestampOf(micros: Micros): Timestamp {
	const seconds = floorDiv(micros, MICROS);
	return create(TimestampSchema, { seconds, nanos: Number(micros - seconds * MICROS) * 1000 });
}

export function microsOfDate(date: Date): Micros {
	return (BigInt(date.getTime()) * 1000n) as Micros;
}

/** RFC 3339 in UTC with six fractional digits: `2026-01-31T12:00:00.000001Z`. */
export function rfc3339(micros: Micros): string {
	const millis = floorDiv(micros, 1000n);
	const date = new Date(Number(millis)).toISOString();
	return `${date.slice(0, -1)}${String(micros - millis * 1000n).padStart(3, "0")}Z`;
}

/**
 * The millisecond an id names, if it is one that names its own time: the first 48 bits of a UUIDv7, or of the UUIDv8s
 * the service derives.
 */
export function millisOfId(id: EventId): bigint | undefined {
	const version = id.charAt(14);
	if (version !== "7" && version !== "8") return undefined;
	return BigInt(`0x${id.slice(0, 8)}${id.slice(9, 13)}`);
}

/** Whether an id names the millisecond of this very time: then it can be found by itself. */
export function isTimed(id: EventId, occurredAt: Micros): boolean {
	return millisOfId(id) === floorDiv(occurredAt, 1000n);
}

function floorDiv(a: bigint, b: bigint): bigint {
	const quotient = a / b;
	return a % b < 0n ? quotient - 1n : quotient;
}
