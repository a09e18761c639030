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
	const seconds = secondsOf(text);
	return seconds === undefined ? parsePoint(option, text, "ago") : timestampFromMs(nowMs - seconds * 1000);
}

/** A time to come: RFC 3339, a date (UTC), or how far ahead: `24h`, `90d`. */
export function parseTimeAhead(option: string, text: string, nowMs: number): Timestamp {
	const seconds = secondsOf(text);
	return seconds === undefined ? parsePoint(option, text, "from now") : timestampFromMs(nowMs + seconds * 1000);
}

/** How long, in seconds: `90s`, `15m`, `24h`, `7d`, `2w`, or `0`. */
export function parseSeconds(option: string, text: string): number {
	const seconds = text === "0" ? 0 : secondsOf(text);
	if (seconds === undefined) throw new UsageError(`${option} must be how long: 0, 90s, 15m, 24h, 7d, 2w`);
	return seconds;
}

function secondsOf(text: string): number | undefined {
	const [, count, unit] = AGO.exec(text) ?? [];
	return count && unit ? Number(count) * (UNITS[unit] ?? 0) : undefined;
}

function parsePoint(option: string, text: string, direction: "ago" | "from now"): Timestamp {
	try {
		return fromJson(TimestampSchema, /^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text);
	} catch (cause) {
		const what = `a time such as 2026-01-31T12:00:00Z, a date, or how long ${direction}: 90s, 15m, 24h, 7d, 2w`;
		throw new UsageError(`${option} must be ${what}`, { cause });
	}
}
