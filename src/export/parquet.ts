import type { MaskableUnit } from "../auth/principal.ts";
import type { Column } from "./columns.ts";
import { EventCells } from "./event-cells.ts";
import type { Writer } from "./formats.ts";
import { type Cell, ParquetFile } from "./parquet-file.ts";

/** Parquet, a row per event. Its footer has what is known of the file by then: its manifest, but for length and digests. */
export function parquet(columns: readonly Column[], masked: ReadonlySet<MaskableUnit>): Writer {
	const event = new EventCells(masked);
	// Its thread begins with the first byte: an export that is never read costs none.
	let file: ParquetFile | undefined;
	const begun = () => (file ??= new ParquetFile(columns));
	return {
		begin: () => begun().write([]),
		rows(rows) {
			const cells = columns.map((): Cell[] => []);
			for (const row of rows) {
				event.take(row);
				for (const [i, { value }] of columns.entries()) cells[i]?.push(value(event));
			}
			return begun().write(cells);
		},
		end: (manifest) => begun().end({ "auditlog.manifest": manifest }),
		close: () => file?.close(),
	};
}
