import { finished } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { rfc3339 } from "../event/time.ts";
import { columnsOf, type EventRow } from "./row.ts";
import { NotCommitted } from "./transaction.ts";

/** A row and its place: what one line of COPY, or one element of each array of INSERT, holds. */
export interface PlacedRow {
	readonly row: EventRow;
	readonly batchId: bigint;
	readonly ord: number;
}

/** The columns as written, in the order of `textsOf`, with their types. */
export const COPY_COLUMNS = {
	batch_id: "bigint",
	ord: "integer",
	tenant_id: "text",
	occurred_at: "timestamptz",
	id: "uuid",
	recorded_at: "timestamptz",
	kind: "smallint",
	hv: "smallint",
	timed: "boolean",
	action: "text",
	category: "integer",
	severity: "integer",
	outcome: "integer",
	actor_type: "integer",
	source: "text",
	actor_id: "text",
	actor_email: "text",
	resource_type: "text",
	resource_id: "text",
	request_id: "text",
	trace_id: "text",
	leaf_hash: "bytea",
	content_mac: "bytea",
	salts: "bytea",
	u_actor: "text",
	u_changes: "text",
	u_context: "text",
	u_description: "text",
	u_facts: "text",
	u_metadata: "text",
	u_reason: "text",
	u_resources: "text",
} as const;

const COPY_SQL = `COPY audit.events (${Object.keys(COPY_COLUMNS).join(", ")}) FROM STDIN`;

/** Streams rows into the partitioned table. Throws pg's error; its `where` names the line (1-based) of a bad row. */
export async function copyRows(client: pg.PoolClient, rows: readonly PlacedRow[]): Promise<void> {
	const stream = client.query(copyFrom(COPY_SQL));
	stream.end(rows.map(encodeLine).join(""));
	await finished(stream);
	if (stream.rowCount !== rows.length) throw new NotCommitted(`COPY took ${stream.rowCount} of ${rows.length} rows`);
}

/** One row as PostgreSQL's text input for each column; null is NULL. */
export function textsOf({ row, batchId, ord }: PlacedRow): (string | null)[] {
	const columns = { batch_id: batchId, ord, ...columnsOf(row) };
	return Object.keys(COPY_COLUMNS).map((name) => textOf(name, columns[name as keyof typeof columns]));
}

function textOf(name: string, value: string | number | bigint | boolean | Uint8Array | null): string | null {
	if (value === null || typeof value === "string") return value;
	if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString("hex")}`;
	if (name === "occurred_at" || name === "recorded_at") return rfc3339(value as never);
	return String(value);
}

/**
 * One line of COPY's text format. This is security code: the writer bypasses row-level security, and an unescaped
 * newline or tab would let one tenant's text forge a row of another's.
 */
export function encodeLine(placed: PlacedRow): string {
	return `${textsOf(placed)
		.map((text) => (text === null ? "\\N" : text.replace(/[\\\n\r\t]/g, escapeCharacter)))
		.join("\t")}\n`;
}

function escapeCharacter(character: string): string {
	if (character === "\n") return "\\n";
	if (character === "\r") return "\\r";
	if (character === "\t") return "\\t";
	return "\\\\";
}
