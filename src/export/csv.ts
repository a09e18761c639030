import { CellTimes } from "./cell-times.ts";
import type { Column } from "./columns.ts";
import type { EventCells } from "./event-cells.ts";
import type { TextFormat } from "./formats.ts";

/**
 * CSV as RFC 4180 has it: a line of names, quotation marks where they must be, lines that end with CR LF.
 *
 * @param bom begins it with U+FEFF, by which Excel knows UTF-8
 */
export function csv(columns: readonly Column[], bom: boolean): TextFormat {
	const times = [new CellTimes(), new CellTimes()];
	const cells = columns.map((column, i) => {
		const cell = cellOf(column, times[i % 2] as CellTimes);
		return i === 0 ? cell : (event: EventCells) => `,${cell(event)}`;
	});
	return {
		head: () => `${bom ? "\ufeff" : ""}${columns.map(({ name }) => name).join(",")}\r\n`,
		line(event) {
			let line = "";
			for (const cell of cells) line += cell(event);
			return `${line}\r\n`;
		},
	};
}

function cellOf(column: Column, times: CellTimes): (event: EventCells) => string {
	switch (column.type) {
		case "text":
			return (event) => {
				const text = column.value(event);
				return text === undefined ? "" : quoted(harmless(text));
			};
		case "json":
			return (event) => quoted(column.value(event) ?? "");
		case "timestamp":
			return (event) => {
				const micros = column.value(event);
				return micros === undefined ? "" : times.text(micros);
			};
		case "uuid":
		case "hex":
		case "integer":
		case "bigint":
			return (event) => String(column.value(event) ?? "");
	}
}

/**
 * What a spreadsheet takes for a formula, which could send the whole sheet away: what begins with one of these, in either width,
 * also after white space, and what begins with a tab or a line break. Apostrophes before it count as part of it, so that taking
 * one away from what is recognised so gives back what was written, whatever that was.
 */
const FORMULA = /^'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])/;

/** An apostrophe before it makes it text. Most texts begin with a letter or digit, and are not looked at twice. */
function harmless(text: string): string {
	return !/^\w/.test(text) && FORMULA.test(text) ? `'${text}` : text;
}

function quoted(text: string): string {
	return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
