import type { Terminal } from "../command-line.ts";
import { displayWidth, pad, shorten } from "./cell.ts";
import type { Paint, Style } from "./colour.ts";
import { printable } from "./printable.ts";

export interface TableColumn<T> {
	title: string;
	text: (item: T) => string;
	/** Below this it is not made narrower; columns without it keep their width. */
	least?: number;
	style?: (item: T) => Style | undefined;
}

export interface TableShape<T> {
	columns: readonly TableColumn<T>[];
	/** Titles of the columns a narrow terminal goes without, tried in this order; after them, those at the right. */
	leftOut?: readonly (readonly string[])[];
}

/**
 * Rows under titles: as wide as the terminal on one, as wide as they need to be anywhere else. The first rows decide on
 * the columns and their widths; later ones follow, so that a long table flows.
 */
export class Table<T> {
	readonly #shape: TableShape<T>;
	readonly #room: number;
	readonly #paint: Paint;
	#layout: Layout<T> | undefined;

	constructor(shape: TableShape<T>, terminal: Terminal, paint: Paint) {
		this.#shape = shape;
		this.#room = terminal.isTTY ? (terminal.columns ?? 80) : Number.POSITIVE_INFINITY;
		this.#paint = paint;
	}

	/** The next rows as lines; the first time with the titles above. */
	lines(items: readonly T[]): string {
		const isFirst = this.#layout === undefined;
		this.#layout ??= fitting(this.#shape, items, this.#room);
		const { columns, widths } = this.#layout;
		const titles = columns.map(({ title }, i) =>
			this.#paint("bold", pad(shorten(title, widths[i] ?? 0), widths[i] ?? 0)),
		);
		const rows = items.map((item) => columns.map((column, i) => this.#cell(column, item, widths[i] ?? 0)));
		return (isFirst ? [titles, ...rows] : rows).map((cells) => `${cells.join(GAP).trimEnd()}\n`).join("");
	}

	#cell(column: TableColumn<T>, item: T, width: number): string {
		const text = printable(column.text(item));
		// A time or an id that came later and is longer sticks out: half of it would tell nothing.
		const shown = this.#room === Number.POSITIVE_INFINITY || column.least === undefined ? text : shorten(text, width);
		return this.#paint(column.style?.(item), pad(shown, width));
	}
}

const GAP = "  ";

interface Layout<T> {
	columns: readonly TableColumn<T>[];
	widths: number[];
}

function fitting<T>({ columns, leftOut = [] }: TableShape<T>, items: readonly T[], room: number): Layout<T> {
	const choices = [[], ...leftOut].map((titles) => columns.filter(({ title }) => !titles.includes(title)));
	const last = choices.at(-1) ?? columns;
	for (let keep = last.length - 1; keep > 0; keep -= 1) choices.push(last.slice(0, keep));
	const layouts = choices.map((chosen) => ({ columns: chosen, widths: widthsOf(chosen, items) }));
	const layout = layouts.find((candidate) => leastWidth(candidate) <= room) ?? layouts.at(-1);
	if (!layout) throw new Error("a table has a column at least");
	narrow(layout, room);
	return layout;
}

/** As wide as the widest cell of each column. */
function widthsOf<T>(columns: readonly TableColumn<T>[], items: readonly T[]): number[] {
	return columns.map(({ title, text }) =>
		items.reduce((widest, item) => Math.max(widest, displayWidth(printable(text(item)))), title.length),
	);
}

function leastWidth<T>({ columns, widths }: Layout<T>): number {
	return tableWidth(widths.map((width, i) => Math.min(width, columns[i]?.least ?? width)));
}

function tableWidth(widths: readonly number[]): number {
	return widths.reduce((sum, width) => sum + width, 0) + GAP.length * (widths.length - 1);
}

/** Takes what is too much from the widest columns that can give, one character at a time. */
function narrow<T>({ columns, widths }: Layout<T>, room: number): void {
	for (let excess = tableWidth(widths) - room; excess > 0; excess -= 1) {
		let widest = -1;
		columns.forEach(({ least }, i) => {
			const width = widths[i] ?? 0;
			if (least !== undefined && width > least && width > (widths[widest] ?? 0)) widest = i;
		});
		if (widest < 0) return;
		widths[widest] = (widths[widest] ?? 0) - 1;
	}
}
