import type pg from "pg";
import type { Logger } from "../logger.ts";
import { type Loop, startLoop } from "../loop.ts";

/** When keys were used, in milliseconds since 1970, by id. */
export type Uses = ReadonlyMap<string, number>;

/** What is written of a key's uses is no older than this, and no more often. */
const EVERY_MS = 60_000;
/** More keys than that in one minute: the others' uses are written the next time they are used. */
const KEYS = 10_000;

/**
 * Writes down when keys were last used: once a minute, all of them in one statement, far from the calls. Noted → written
 * with the next run, or when the service ends → forgotten. What cannot be written is kept for the next run.
 */
export class LastUses {
	readonly #write: (uses: Uses) => Promise<void>;
	readonly #loop: Loop;
	#noted = new Map<string, number>();

	constructor({ write, logger }: { write: (uses: Uses) => Promise<void>; logger: Logger }) {
		this.#write = write;
		this.#loop = startLoop("last uses of keys", EVERY_MS, logger, () => this.#flush());
	}

	/** A key was used, now. */
	note(keyId: string): void {
		if (this.#noted.size < KEYS || this.#noted.has(keyId)) this.#noted.set(keyId, Date.now());
	}

	/** Writes what is left, if it can be written. */
	async close(): Promise<void> {
		await this.#loop.close();
		await this.#flush().catch(() => {});
	}

	async #flush(): Promise<void> {
		if (this.#noted.size === 0) return;
		const uses = this.#noted;
		this.#noted = new Map();
		try {
			await this.#write(uses);
		} catch (error) {
			// What came meanwhile is later.
			this.#noted = new Map([...uses, ...this.#noted]);
			throw error;
		}
	}
}

export function writeUsesTo(writer: pg.Pool): (uses: Uses) => Promise<void> {
	return async (uses) => {
		await writer.query("SELECT audit.touch_api_keys($1, $2)", [
			[...uses.keys()],
			[...uses.values()].map((at) => new Date(at)),
		]);
	};
}
