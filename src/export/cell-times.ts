/**
 * Writes times as RFC 3339 in UTC with six fractional digits, as everywhere: `2026-01-31T12:00:00.000001Z`. Events that follow each
 * other are mostly of the same second or two, whose text is kept.
 */
export class CellTimes {
	#second = Number.NaN;
	#text = "";

	/** @param micros since 1970; within ±2^53, which is beyond the years that events have */
	text(micros: number): string {
		const second = Math.floor(micros / 1_000_000);
		if (second !== this.#second) {
			this.#second = second;
			this.#text = new Date(second * 1000).toISOString().slice(0, 20);
		}
		return `${this.#text}${String(micros - second * 1_000_000).padStart(6, "0")}Z`;
	}
}
