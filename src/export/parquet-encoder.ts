import { constants, zstdCompressSync } from "node:zlib";
import { ByteWriter, ParquetWriter, type SchemaElement } from "hyparquet-writer";
import { VERSION } from "../version.ts";
import type { CellType } from "./columns.ts";
import type { Cell, ParquetColumn } from "./parquet-file.ts";

/**
 * A row group ends with the batch that brings it to one of these. All of a row group is in memory at once, and readers
 * skip or read whole ones: small ones cost them and the footer, which has some 5 KB for each.
 */
export interface RowGroupLimits {
	readonly rows: number;
	/** Of all cells together: the characters of a text, 8 for what is not text. */
	readonly bytes: number;
}

export const ROW_GROUP: RowGroupLimits = { rows: 10_000, bytes: 8 * 1024 * 1024 };

/**
 * Writes one Parquet file, row group by row group, in memory that does not depend on the number of rows. Runs for tenths of a second
 * at a time: in a thread of its own (parquet-thread.ts).
 */
export class ParquetEncoder {
	readonly #columns: readonly ParquetColumn[];
	readonly #limits: RowGroupLimits;
	readonly #bytes = new ByteWriter();
	readonly #writer: ParquetWriter;
	#cells: Cell[][];
	#rows = 0;
	#size = 0;

	constructor(columns: readonly ParquetColumn[], limits: RowGroupLimits = ROW_GROUP) {
		this.#columns = columns;
		this.#limits = limits;
		this.#cells = columns.map(() => []);
		this.#writer = new ParquetWriter({
			writer: this.#bytes,
			schema: schemaOf(columns, AS_TEXT),
			codec: "ZSTD",
			compressors: { ZSTD: (page) => zstdCompressSync(page, ZSTD) },
			createdBy: `auditlog version ${VERSION}`,
		});
	}

	/** See ParquetFile.write. */
	write(batch: readonly (readonly Cell[])[]): Uint8Array<ArrayBuffer> {
		for (const [i, cells] of batch.entries()) {
			const column = this.#cells[i];
			for (const cell of cells) {
				column?.push(cell);
				this.#size += typeof cell === "string" ? cell.length : 8;
			}
		}
		this.#rows += batch[0]?.length ?? 0;
		if (this.#rows >= this.#limits.rows || this.#size >= this.#limits.bytes) this.#writeRowGroup();
		return this.#taken();
	}

	/** See ParquetFile.end. */
	end(metadata: Readonly<Record<string, string>>): Uint8Array<ArrayBuffer> {
		if (this.#rows > 0) this.#writeRowGroup();
		this.#writer.schema = schemaOf(this.#columns, ELEMENTS);
		this.#writer.kvMetadata = Object.entries(metadata).map(([key, value]) => ({ key, value }));
		void this.#writer.finish();
		return this.#taken();
	}

	#writeRowGroup(): void {
		const columnData = this.#columns.map(({ name, type }, i) => ({
			name,
			data: this.#valuesOf(type, i),
			offsetIndex: false,
			// By their times readers pass over row groups. Of the others smallest and largest say nothing, and take memory to the end.
			statistics: type === "timestamp",
			...(type === "timestamp" && { encoding: "DELTA_BINARY_PACKED" as const }),
		}));
		void this.#writer.write({ columnData, rowGroupSize: this.#rows });
		this.#cells = this.#columns.map(() => []);
		this.#rows = 0;
		this.#size = 0;
	}

	#valuesOf(type: CellType, column: number): unknown[] {
		const cells = this.#cells[column] ?? [];
		return isText(type) ? cells : cells.map((cell) => (cell === undefined ? cell : BigInt(cell)));
	}

	/** A copy, as the writer goes on in the same memory. */
	#taken(): Uint8Array<ArrayBuffer> {
		const taken = this.#bytes.getBytes().slice();
		this.#bytes.index = 0;
		return taken as Uint8Array<ArrayBuffer>;
	}
}

const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

function isText(type: CellType): boolean {
	return ELEMENTS[type].type !== "INT64";
}

type Elements = Record<CellType, Omit<SchemaElement, "name" | "repetition_type">>;

const TEXT = { type: "BYTE_ARRAY", converted_type: "UTF8", logical_type: { type: "STRING" } } as const;

/** How each type is stored, and what it is called: by its older name (`converted_type`) too, which many readers go by. */
const ELEMENTS: Elements = {
	timestamp: {
		type: "INT64",
		converted_type: "TIMESTAMP_MICROS",
		logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "MICROS" },
	},
	uuid: { type: "FIXED_LEN_BYTE_ARRAY", type_length: 16, logical_type: { type: "UUID" } },
	text: TEXT,
	hex: TEXT,
	json: { type: "BYTE_ARRAY", converted_type: "JSON", logical_type: { type: "JSON" } },
	integer: { type: "INT64" },
	bigint: { type: "INT64" },
};

/**
 * What the pages are written by: the library would parse and print JSON anew, with keys in another order. It is text
 * already, stored as any other; only the footer calls it JSON.
 */
const AS_TEXT: Elements = { ...ELEMENTS, json: TEXT };

/** Every column may be empty: the files of all keys, whatever is masked for them, have one schema. */
function schemaOf(columns: readonly ParquetColumn[], elements: Elements): SchemaElement[] {
	const leaves = columns.map(
		({ name, type }): SchemaElement => ({ name, repetition_type: "OPTIONAL", ...elements[type] }),
	);
	return [{ name: "event", num_children: leaves.length }, ...leaves];
}
