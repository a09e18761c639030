/** Jobs side by side, at most so many at once. After the first failure no other job starts, and the failure is thrown. */
export class InFlight {
	readonly #limit: number;
	readonly #running = new Set<Promise<void>>();
	#failure: { error: unknown } | undefined;

	constructor(limit: number) {
		this.#limit = limit;
	}

	/** Starts a job as soon as there is room. */
	async start(job: () => Promise<void>): Promise<void> {
		while (this.#running.size >= this.#limit) await Promise.race(this.#running);
		if (this.#failure) await this.drain();
		const running: Promise<void> = job()
			.catch((error: unknown) => {
				this.#failure ??= { error };
			})
			.finally(() => this.#running.delete(running));
		this.#running.add(running);
	}

	/** Waits for all of them, so that each has counted what it did, and throws the first failure. */
	async drain(): Promise<void> {
		await Promise.all(this.#running);
		if (this.#failure) throw this.#failure.error;
	}
}
