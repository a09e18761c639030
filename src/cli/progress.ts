import type { Terminal } from "./command-line.ts";

/** One line on a terminal that says how far a long job got; nothing anywhere else. */
export class Progress {
	readonly #terminal: Terminal;
	#shownAt = 0;

	constructor(terminal: Terminal) {
		this.#terminal = terminal;
	}

	/** @param total undefined: it is not known how much there is */
	show(what: string, done: number, total: number | undefined, detail: () => string): void {
		if (!this.#terminal.isTTY) return;
		const now = performance.now();
		if (now - this.#shownAt < REFRESH_MS) return;
		this.#shownAt = now;
		const line = `${what} ${total ? `${bar(done / total)} ` : ""}${detail()}`;
		this.#terminal.write(`\r\u001b[K${line.slice(0, (this.#terminal.columns ?? 80) - 1)}`);
	}

	/** Removes the line. */
	clear(): void {
		if (this.#terminal.isTTY && this.#shownAt > 0) this.#terminal.write("\r\u001b[K");
		this.#shownAt = 0;
	}
}

const REFRESH_MS = 100;
const BAR_WIDTH = 30;

function bar(fraction: number): string {
	const full = Math.round(Math.min(1, Math.max(0, fraction)) * BAR_WIDTH);
	return `[${"#".repeat(full)}${" ".repeat(BAR_WIDTH - full)}] ${String(Math.floor(fraction * 100)).padStart(3)} %`;
}
