import type { MaskableUnit } from "../auth/principal.ts";
import { type StoredRow, storedColumns } from "./stored-row.ts";

/**
 * What an export selects of an event: as a reader does, with bytes as text, which is what becomes of them, and the batch. Of a
 * masked unit there is the commitment instead of the text.
 */
export interface ExportedRow
	extends Omit<StoredRow, "leaf_hash" | "salts" | `c_${MaskableUnit}`>,
		Readonly<Partial<Record<`c_${MaskableUnit}`, string | null>>> {
	leaf_hex: string;
	salts_hex: string;
	batch_id: string;
}

/** The select list that gives an ExportedRow. */
export function exportedColumns(masked: ReadonlySet<MaskableUnit>): string[] {
	return [...storedColumns(masked).map(asText), "batch_id"];
}

/** Bytes in hexadecimal: they would be decoded only to be encoded again. */
function asText(column: string): string {
	if (column === "leaf_hash") return "encode(leaf_hash, 'hex') AS leaf_hex";
	if (column === "salts") return "encode(salts, 'hex') AS salts_hex";
	const [, commitment, name] = /^(.*) AS (c_\w+)$/s.exec(column) ?? [];
	return commitment === undefined ? column : `encode(${commitment}, 'hex') AS ${name}`;
}
