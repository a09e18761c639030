import { Option } from "commander";
import { type CommandLine, print } from "../command-line.ts";
import { painter } from "./colour.ts";
import { type CsvColumn, csvLine } from "./csv.ts";
import { jsonText } from "./printable.ts";
import { Table, type TableShape } from "./table.ts";

/** How a list of things of one kind is printed, in every format. */
export interface Listing<T> {
	/** What a person gets. */
	table: TableShape<T>;
	/** What a person gets where there is none, such as `no events`. */
	nothing: string;
	/** What a spreadsheet gets. */
	csv: readonly CsvColumn<T>[];
	/** What a program gets: a value JSON.stringify takes, with snake_case names. */
	json: (item: T) => unknown;
}

export const FORMATS = ["table", "json", "ndjson", "csv"] as const;
export type Format = (typeof FORMATS)[number];

/** The option `-o, --output <format>`; the action finds the format in `options.output`. */
export function outputOption(byDefault: Format = "table"): Option {
	return new Option("-o, --output <format>", "how to print").choices(FORMATS).default(byDefault);
}

/** Prints things as they come, page by page: nothing printed is kept, so memory does not grow with the output. */
export class ListOutput<T> {
	readonly #listing: Listing<T>;
	readonly #format: Format;
	readonly #commandLine: CommandLine;
	readonly #table: Table<T>;
	#printed = 0;

	constructor(listing: Listing<T>, format: Format, commandLine: CommandLine) {
		this.#listing = listing;
		this.#format = format;
		this.#commandLine = commandLine;
		this.#table = new Table(listing.table, commandLine.stdout, painter(commandLine));
	}

	/** Prints some more, and waits for a slow reader. */
	async write(items: readonly T[]): Promise<void> {
		if (items.length > 0) await print(this.#commandLine.stdout, this.#head() + this.#body(items));
		this.#printed += items.length;
	}

	/** To be called once, after the last: prints what closes the list, or says that it is empty. */
	async end(): Promise<void> {
		const isEmpty = this.#printed === 0;
		const ends = { table: isEmpty ? `${this.#listing.nothing}\n` : "", json: "]\n", ndjson: "", csv: "" };
		await print(this.#commandLine.stdout, this.#head() + ends[this.#format]);
	}

	/** What comes before the first item. */
	#head(): string {
		if (this.#printed > 0) return "";
		if (this.#format === "csv") return csvLine(this.#listing.csv.map(({ name }) => name));
		return this.#format === "json" ? "[" : "";
	}

	#body(items: readonly T[]): string {
		const { csv, json } = this.#listing;
		if (this.#format === "table") return this.#table.lines(items);
		if (this.#format === "csv") return items.map((item) => csvLine(csv.map(({ text }) => text(item)))).join("");
		const texts = items.map((item) => jsonText(json(item)));
		if (this.#format === "ndjson") return texts.map((text) => `${text}\n`).join("");
		return `${this.#printed > 0 ? ",\n" : ""}${texts.join(",\n")}`;
	}
}

/** Prints a list that is there already. */
export async function printList<T>(
	listing: Listing<T>,
	items: readonly T[],
	format: Format,
	commandLine: CommandLine,
): Promise<void> {
	const output = new ListOutput(listing, format, commandLine);
	await output.write(items);
	await output.end();
}
