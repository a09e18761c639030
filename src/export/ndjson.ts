import { CellTimes } from "./cell-times.ts";
import type { Column } from "./columns.ts";
import type { EventCells } from "./event-cells.ts";
import type { TextFormat } from "./formats.ts";

/** One JSON object per line, with every column in it: null where the event does not have it. JSON cells are JSON, not text. */
export function ndjson(columns: readonly Column[]): TextFormat {
	const times = [new CellTimes(), new CellTimes()];
	const members = columns.map((column, i) => {
		const before = `${i === 0 ? "{" : ","}${JSON.stringify(column.name)}:`;
		return { before, valueOf: valueOf(column, times[i % 2] as CellTimes) };
	});
	return {
		head: () => "",
		line(event) {
			let line = "";
			for (const { before, valueOf } of members) line += before + (valueOf(event) ?? "null");
			return `${line}}\n`;
		},
	};
}

function valueOf(column: Column, times: CellTimes): (event: EventCells) => string | undefined {
	switch (column.type) {
		case "json":
			return column.value;
		case "integer":
			return (event) => column.value(event)?.toString();
		case "timestamp":
			return (event) => {
				const micros = column.value(event);
				return micros === undefined ? undefined : `"${times.text(micros)}"`;
			};
		// A 64-bit integer is text: most readers of JSON would round it.
		case "bigint":
		case "hex":
		case "text":
		case "uuid":
			return (event) => {
				const text = column.value(event);
				return text === undefined ? undefined : JSON.stringify(text);
			};
	}
}
