import type { Answer } from "./doors.ts";
import type { World } from "./world.ts";

/** A request that is not about one event, at each of the doors that know it. */
export interface RequestRow {
	/** Its number in the catalogue. */
	readonly row: number;
	readonly what: string;
	readonly doors: Readonly<Record<string, (world: World) => Promise<Answer>>>;
	readonly expected: Expected;
}

/** What every one of the doors must answer; if there are two words for the same at different doors, either. */
export interface Expected {
	/** `ok`: it is taken. */
	readonly code: string | readonly string[];
	readonly reason?: string | readonly string[];
	/** The paths of all violations. Absent: not looked at. */
	readonly fields?: readonly string[];
	/** What the message, or the first violation, says. */
	readonly says?: RegExp;
	/** The HTTP status, where it is not what its code always has. */
	readonly status?: number;
	/** What the answer holds if it is taken. */
	readonly json?: unknown;
}
