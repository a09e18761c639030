import { spelledOut } from "../output/printable.ts";

/** A body for people's eyes: JSON as text, anything else as hex. What could steer a terminal is spelt out in both. */
export function bodyText(body: Uint8Array): { kind: string; text: string } {
	const text = decodeUtf8(body);
	if (text !== undefined && /^\s*[[{]/.test(text)) return { kind: "text", text: `${spelledOut(text)}\n` };
	return { kind: "hex", text: hexDump(body) };
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
	try {
		return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
	} catch {
		return undefined;
	}
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
