import { UsageError } from "./command-line.ts";

/** What `--limit` says: how many at most. */
export function parseLimit(text: string): number {
	if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageError("--limit must be a number from 1");
	return Number(text);
}
