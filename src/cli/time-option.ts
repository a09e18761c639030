import { fromJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { UsageError } from "./command-line.ts";

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

const AGO = /^(\d{1,9})([smhdw])$/;

/** Whether it is a time counted from now: another one whenever it is asked. */
export function isTimeAgo(text: string): boolean {
	return AGO.test(text);
}

/** A time: RFC 3339, a date (UTC), or how long ago: `90s`, `15m`, `24h`, `7d`, `2w`. */
export function parseTime(option: string, text: string, nowMs: number): Timestamp {
	const [, count, unit] = AGO.exec(text) ?? [];
	if (count && unit) return timestampFromMs(nowMs - Number(count) * (UNITS[unit] ?? 0) * 1000);
	try {
		return fromJson(TimestampSchema, /^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text);
	} catch (cause) {
		const what = "a time such as 2026-01-31T12:00:00Z, a date, or how long ago: 90s, 15m, 24h, 7d, 2w";
		throw new UsageError(`${option} must be ${what}`, { cause });
	}
}
