import type { MaskableUnit } from "../auth/principal.ts";
import { ExportFormat } from "../gen/audit/v1/audit_service_pb.ts";
import type { ExportedRow } from "../storage/exported-row.ts";
import type { Column } from "./columns.ts";
import { csv } from "./csv.ts";
import { EventCells } from "./event-cells.ts";
import { ndjson } from "./ndjson.ts";
import { parquet } from "./parquet.ts";

export interface FormatOptions {
	readonly columns: readonly Column[];
	/** The units that were not selected. */
	readonly masked: ReadonlySet<MaskableUnit>;
	readonly bom: boolean;
}

/** Writes one file: `begin`, then `rows` any number of times, then `end`. */
export interface Writer {
	/** What comes before the first event. Left out when an export is resumed. */
	begin(): Uint8Array | Promise<Uint8Array>;
	/** These events, in this order; perhaps nothing yet, where the format gathers more before it writes. */
	rows(rows: readonly ExportedRow[]): Uint8Array | Promise<Uint8Array>;
	/**
	 * What comes after the last one.
	 *
	 * @param manifest as JSON, but for what is known only after these bytes; for formats that have room for it
	 */
	end(manifest: string): Uint8Array | Promise<Uint8Array>;
	/** Gives up what it holds, at the end or in the middle. */
	close?(): void | Promise<void>;
}

export interface Format {
	/** Of a file's name. */
	readonly extension: string;
	readonly mediaType: string;
	/** Whether the bytes of some rows are the same whatever came before them: then an export can go on between any two. */
	readonly isResumable: boolean;
	/** Whether the file may be compressed as a whole. */
	readonly isCompressible: boolean;
	open(options: FormatOptions): Writer;
}

/** A format of lines, each of which is one event. */
export interface TextFormat {
	head(): string;
	line(event: EventCells): string;
}

export type FormatNumber = Exclude<ExportFormat, typeof ExportFormat.UNSPECIFIED>;

/** Every format there is. One that is missing here does not compile. */
export const FORMATS: Readonly<Record<FormatNumber, Format>> = {
	[ExportFormat.CSV]: {
		extension: "csv",
		mediaType: "text/csv; charset=utf-8; header=present",
		isResumable: true,
		isCompressible: true,
		open: ({ columns, masked, bom }) => writerOf(csv(columns, bom), masked),
	},
	[ExportFormat.NDJSON]: {
		extension: "ndjson",
		mediaType: "application/x-ndjson",
		isResumable: true,
		isCompressible: true,
		open: ({ columns, masked }) => writerOf(ndjson(columns), masked),
	},
	[ExportFormat.PARQUET]: {
		extension: "parquet",
		mediaType: "application/vnd.apache.parquet",
		isResumable: false,
		isCompressible: false,
		open: ({ columns, masked }) => parquet(columns, masked),
	},
};

function writerOf(format: TextFormat, masked: ReadonlySet<MaskableUnit>): Writer {
	const event = new EventCells(masked);
	return {
		begin: () => Buffer.from(format.head()),
		rows(rows) {
			let text = "";
			for (const row of rows) {
				event.take(row);
				text += format.line(event);
			}
			return Buffer.from(text);
		},
		end: () => new Uint8Array(),
	};
}
