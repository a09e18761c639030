/** A list of things to close, last opened first: built sink-first, it drains the path source-first. */
export class Closer {
	readonly #steps: (() => unknown)[] = [];

	/** Remembers how to close what was just opened, and returns it. */
	add<T>(opened: T, close: (opened: T) => unknown): T {
		this.#steps.push(() => close(opened));
		return opened;
	}

	/** Closes everything, each once, in reverse. Goes on after a failure and throws the first one at the end. */
	async close(): Promise<void> {
		const failures: unknown[] = [];
		for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
			try {
				await step();
			} catch (error) {
				failures.push(error);
			}
		}
		if (failures.length > 0) throw failures[0];
	}
}
