import type { Terminal } from "../command-line.ts";
import { printable } from "../output/printable.ts";
import { Progress } from "../progress.ts";
import { violationText } from "../violation-text.ts";
import type { RecordFile } from "./record-file.ts";
import type { Refusal } from "./send-events.ts";

/** Counts what becomes of the records, shows how far the import is, and names what is refused. */
export class ImportReport {
	readonly #stderr: Terminal;
	readonly #file: RecordFile;
	readonly #progress: Progress;
	readonly #startedAt = performance.now();
	readonly #counts = { read: 0, stored: 0, duplicates: 0, acknowledged: 0, repeated: 0, rejected: 0 };
	/** By NATS alone: whether the events were seen in the log. */
	#arrived: boolean | undefined;

	constructor(stderr: Terminal, file: RecordFile) {
		this.#stderr = stderr;
		this.#file = file;
		this.#progress = new Progress(stderr);
	}

	/** Whether everything read is in, as far as can be known. */
	get isComplete(): boolean {
		return this.#counts.rejected === 0 && this.#arrived !== false;
	}

	read(): void {
		this.#counts.read += 1;
		const { bytesRead, bytes } = this.#file;
		this.#progress.show("importing", bytesRead, bytes, () => `${this.#counts.read.toLocaleString("en")} records`);
	}

	stored(duplicate: boolean): void {
		if (duplicate) this.#counts.duplicates += 1;
		else this.#counts.stored += 1;
	}

	acknowledged(events: number, repeated: boolean): void {
		this.#counts.acknowledged += events;
		if (repeated) this.#counts.repeated += events;
	}

	arrived(arrived: boolean | undefined): void {
		this.#arrived = arrived;
	}

	rejected(place: string, { message, violations }: Refusal): void {
		this.#counts.rejected += 1;
		this.#progress.clear();
		this.#stderr.write(`${place}: ${violations.length > 0 ? violationText(violations, "; ") : printable(message)}\n`);
	}

	finish(): void {
		this.#progress.clear();
	}

	summary(output: "text" | "json"): string {
		const { read, stored, duplicates, acknowledged, repeated, rejected } = this.#counts;
		const byNats = this.#arrived !== undefined || acknowledged > 0;
		const counts = byNats ? { read, acknowledged, repeated, rejected } : { read, stored, duplicates, rejected };
		if (output === "json") {
			const arrived = this.#arrived === undefined ? {} : { arrived: this.#arrived };
			return `${JSON.stringify({ ...counts, ...arrived })}\n`;
		}
		const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(1);
		const words = Object.entries(counts).map(([name, count]) => `${name} ${count.toLocaleString("en")}`);
		return `${words.join(", ")} in ${seconds} s\n${byNats ? this.#fate() : ""}`;
	}

	#fate(): string {
		const kept = "acknowledged by NATS: the service stores each once, or keeps it as a dead letter with the reason";
		if (this.#arrived === undefined) return `${kept}\n`;
		return `${kept}; the last ones are ${this.#arrived ? "in the log" : "not to be seen yet"}\n`;
	}
}
