import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import type { Terminal } from "../command-line.ts";
import { printable } from "../output/printable.ts";

/** Rows under titles; the last column is as wide as it likes, up to the edge of a terminal. */
export function textTable(titles: readonly string[], rows: readonly (readonly string[])[], terminal: Terminal): string {
	const cells = [titles, ...rows.map((row) => row.map(printable))];
	const widths = titles.map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)));
	const edge = terminal.isTTY ? (terminal.columns ?? 80) : Number.POSITIVE_INFINITY;
	const lines = cells.map((row) =>
		row
			.map((cell, i) => (i < titles.length - 1 ? cell.padEnd(widths[i] ?? 0) : cell))
			.join("  ")
			.trimEnd(),
	);
	return lines.map((line) => `${line.length > edge ? `${line.slice(0, edge - 1)}…` : line}\n`).join("");
}

/** A message as JSON with snake_case names and six-digit times, as the REST routes give events. */
export function messageJson<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>, indent = 0): string {
	const json = toJson(desc, message, { useProtoFieldName: true });
	return JSON.stringify(json, (name, value: unknown) => (TIMES.has(name) ? sixDigits(String(value)) : value), indent);
}

const TIMES: ReadonlySet<string> = new Set([
	"published_at",
	"received_at",
	"stream_created",
	"acted_at",
	"occurred_at",
]);

function sixDigits(time: string): string {
	return time.replace(/(?:\.(\d{1,9}))?Z$/, (_, digits = "") => `.${String(digits).padEnd(6, "0").slice(0, 6)}Z`);
}

/** Messages in the format asked for; `table` makes the one for people. */
export function listText<Desc extends DescMessage>(
	format: "table" | "json" | "ndjson",
	desc: Desc,
	messages: readonly MessageShape<Desc>[],
	table: () => string,
): string {
	if (format === "table") return table();
	const items = messages.map((message) => messageJson(desc, message));
	return format === "json" ? `[${items.join(",\n")}]\n` : items.map((item) => `${item}\n`).join("");
}

/** A body for people's eyes: JSON as text, anything else as hex. What could steer a terminal is spelt out in both. */
export function bodyText(body: Uint8Array): { kind: string; text: string } {
	const text = decodeUtf8(body);
	if (text !== undefined && /^\s*[[{]/.test(text)) return { kind: "text", text: `${spellOut(text)}\n` };
	return { kind: "hex", text: hexDump(body) };
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
	try {
		return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
	} catch {
		return undefined;
	}
}

/** Control characters but line feed and tab, and whatever reverses or breaks lines, as `\u001b`. */
function spellOut(text: string): string {
	return text.replace(
		/[^\P{Cc}\n\t]|[\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu,
		(character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
}

const BYTES_IN_LINE = 16;

function hexDump(bytes: Uint8Array): string {
	const lines: string[] = [];
	for (let at = 0; at < bytes.length; at += BYTES_IN_LINE) {
		const piece = [...bytes.subarray(at, at + BYTES_IN_LINE)];
		const hex = piece.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
		const ascii = piece.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
		lines.push(`${at.toString(16).padStart(8, "0")}  ${hex.padEnd(BYTES_IN_LINE * 3 - 1)}  ${ascii}\n`);
	}
	return lines.join("");
}
