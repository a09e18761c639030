import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";

/** What DuckDB, which shares no code with what wrote it, finds in a Parquet file. */
export interface ReadParquet {
	/** Name and DuckDB's type. */
	readonly columns: readonly (readonly [name: string, type: string])[];
	/** Times as microseconds since 1970, all else as text. */
	readonly rows: readonly Readonly<Record<string, string | null>>[];
	readonly rowGroups: readonly { readonly rows: number; readonly bytes: number }[];
	readonly compressions: readonly string[];
	/** Of each column with a logical type what the file says of it. */
	readonly logicalTypes: Readonly<Record<string, string | null>>;
	readonly metadata: Readonly<Record<string, string>>;
	readonly createdBy: string | null;
}

export async function readParquet(bytes: Uint8Array): Promise<ReadParquet> {
	const folder = await mkdtemp(join(tmpdir(), "parquet-"));
	const path = join(folder, "file.parquet");
	await writeFile(path, bytes);
	const instance = await DuckDBInstance.create(":memory:", { autoinstall_known_extensions: "false", threads: "1" });
	const connection = await instance.connect();
	const ask = async (sql: string) => {
		const found = await connection.runAndReadAll(sql.replaceAll("$file", `'${path}'`));
		return found.getRowObjectsJson() as Record<string, string | null>[];
	};
	try {
		const described = await ask("DESCRIBE SELECT * FROM $file");
		const columns = described.map((row) => [row["column_name"] ?? "", row["column_type"] ?? ""] as const);
		const cells = columns.map(([name, type]) =>
			type.startsWith("TIMESTAMP") ? bytesOf(`epoch_us("${name}")`, name) : bytesOf(`"${name}"`, name),
		);
		const groups = await ask(
			`SELECT row_group_id, any_value(row_group_num_rows)::VARCHAR AS rows, sum(total_uncompressed_size)::VARCHAR AS bytes
			FROM parquet_metadata($file) GROUP BY row_group_id ORDER BY row_group_id`,
		);
		const compressions = await ask("SELECT DISTINCT compression FROM parquet_metadata($file)");
		const logical = await ask("SELECT name, logical_type FROM parquet_schema($file)");
		const metadata = await ask("SELECT decode(key) AS k, decode(value) AS v FROM parquet_kv_metadata($file)");
		const [about] = await ask("SELECT created_by FROM parquet_file_metadata($file)");
		return {
			columns,
			rows: (await ask(`SELECT ${cells.join(", ")} FROM read_parquet($file)`)).map(asText),
			rowGroups: groups.map(({ rows, bytes }) => ({ rows: Number(rows), bytes: Number(bytes) })),
			compressions: compressions.map(({ compression }) => compression ?? ""),
			logicalTypes: Object.fromEntries(logical.map(({ name, logical_type: type }) => [name, type ?? null])),
			metadata: Object.fromEntries(metadata.map(({ k, v }) => [k, v ?? ""])),
			createdBy: about?.["created_by"] ?? null,
		};
	} finally {
		connection.closeSync();
		instance.closeSync();
		await rm(folder, { recursive: true });
	}
}

/** Text comes as its bytes: DuckDB's client for JavaScript takes a U+FEFF at the beginning for a mark, and drops it. */
function bytesOf(value: string, name: string): string {
	return `hex(encode(${value}::VARCHAR)) AS "${name}"`;
}

function asText(row: Record<string, string | null>): Record<string, string | null> {
	const texts = Object.entries(row).map(([name, hex]) => [name, hex && Buffer.from(hex, "hex").toString()] as const);
	return Object.fromEntries(texts);
}
