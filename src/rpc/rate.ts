/** Whoever was quiet for so long may send as much at once as is allowed in that time. */
const BURST_MS = 2_000;

/**
 * So much a second for each holder: a token bucket, kept as the moment at which it is full again. Who asks for more than
 * a full bucket holds gets it from a full one, and pays it back in time: nothing is too large for ever, and in the long
 * run nobody gets more. In this process alone. Who has been quiet is forgotten.
 */
export class Rate {
	readonly #perSecond: number;
	readonly #fullAt = new Map<string, number>();

	/** @param perSecond Infinity: no limit */
	constructor(perSecond: number) {
		this.#perSecond = perSecond;
	}

	get perSecond(): number {
		return this.#perSecond;
	}

	/** How many holders are remembered. */
	get size(): number {
		return this.#fullAt.size;
	}

	/** @returns after how many milliseconds there is enough, if nobody else takes; 0: now */
	waitFor(holder: string, amount: number, now: number): number {
		const missingMs = Math.max(0, (this.#fullAt.get(holder) ?? now) - now);
		const takesMs = Math.min(BURST_MS, (amount / this.#perSecond) * 1000);
		return Math.max(0, missingMs + takesMs - BURST_MS);
	}

	/** Takes, whether there is enough or not. */
	take(holder: string, amount: number, now: number): void {
		if (this.#perSecond === Number.POSITIVE_INFINITY) return;
		const fullAt = Math.max(now, this.#fullAt.get(holder) ?? now);
		this.#fullAt.set(holder, fullAt + (amount / this.#perSecond) * 1000);
		this.#forgetSome(now);
	}

	/** Looks at more holders than one call can add: whoever has a full bucket goes before long. */
	#forgetSome(now: number): void {
		let looks = 2;
		for (const [holder, fullAt] of this.#fullAt) {
			if (looks === 0) return;
			looks -= 1;
			this.#fullAt.delete(holder);
			if (fullAt > now) this.#fullAt.set(holder, fullAt);
		}
	}
}
