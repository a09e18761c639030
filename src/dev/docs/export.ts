import { COLUMNS } from "../../export/columns.ts";
import { table } from "./api-reference.ts";
import { replaceBetween } from "./operations.ts";

/** The text with its table of columns written anew, between its markers. */
export function withColumns(text: string): string {
	const rows = COLUMNS.map(({ name, type, unit, meaning, isExtra }) => [
		`\`${name}\``,
		type,
		unit === "header" || unit === "facts" ? "" : unit,
		isExtra ? `${meaning}; only if asked for` : meaning,
	]);
	return replaceBetween(text, "columns", table(["Column", "Type", "Masked with", "Meaning"], rows));
}
