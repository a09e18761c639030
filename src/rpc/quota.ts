/** An amount shared by many, of which nobody may hold more than a share: one holder cannot turn the others away. */
export class Quota {
	readonly #total: number;
	readonly #share: number;
	readonly #heldBy = new Map<string, number>();
	readonly #waiting = new Set<{ readonly holder: string; readonly amount: number; readonly grant: () => void }>();
	#left: number;

	constructor(total: number, share: number) {
		this.#total = total;
		this.#left = total;
		this.#share = share;
	}

	/** What is taken at the moment, by all. */
	get taken(): number {
		return this.#total - this.#left;
	}

	/** @returns whether there was room; if not, nothing is taken */
	take(holder: string, amount: number): boolean {
		const held = (this.#heldBy.get(holder) ?? 0) + amount;
		if (amount > this.#left || held > this.#share) return false;
		this.#left -= amount;
		this.#heldBy.set(holder, held);
		return true;
	}

	/**
	 * Takes as soon as there is room. Who waits longest is served first, but holds up nobody who has room.
	 *
	 * @param leaving aborted when nobody waits any more: those who gave up must not be kept until there is room
	 * @returns whether it was taken
	 */
	async takeLater(holder: string, amount: number, leaving?: AbortSignal): Promise<boolean> {
		if (leaving?.aborted) return false;
		if (this.take(holder, amount)) return true;
		return new Promise((resolve) => {
			const waiter = { holder, amount, grant: () => resolve(true) };
			this.#waiting.add(waiter);
			const leave = () => {
				if (this.#waiting.delete(waiter)) resolve(false);
			};
			leaving?.addEventListener("abort", leave, { once: true });
		});
	}

	giveBack(holder: string, amount: number): void {
		this.#left += amount;
		const held = (this.#heldBy.get(holder) ?? 0) - amount;
		if (held > 0) this.#heldBy.set(holder, held);
		else this.#heldBy.delete(holder);
		for (const waiter of this.#waiting) {
			if (!this.take(waiter.holder, waiter.amount)) continue;
			this.#waiting.delete(waiter);
			waiter.grant();
		}
	}
}
