import { SETTINGS } from "../../config.ts";
import { table } from "./api-reference.ts";

/** The text with its tables of settings and metrics written anew, each between its markers. */
export function withTables(text: string): string {
	return replaceBetween(text, "settings", settingsTable());
}

interface Setting {
	readonly doc: string;
	readonly fallback?: string;
	readonly optional?: true;
	readonly secret?: true;
}

function settingsTable(): string {
	const settings: Readonly<Record<string, Setting>> = SETTINGS;
	return table(
		["Setting", "Default", "Meaning"],
		Object.entries(settings).map(([name, setting]) => [
			setting.secret ? `\`${name}\`, \`${name}_FILE\`` : `\`${name}\``,
			setting.fallback === undefined ? (setting.optional ? "none" : "**required**") : `\`${setting.fallback}\``,
			setting.doc,
		]),
	);
}

function replaceBetween(text: string, name: string, content: string): string {
	const [begin, end] = [`<!-- begin ${name}: written by make docs -->`, `<!-- end ${name} -->`];
	const from = text.indexOf(begin);
	const to = text.indexOf(end);
	if (from < 0 || to < from) throw new Error(`docs/operations.md has no place for ${name}`);
	return `${text.slice(0, from + begin.length)}\n${content}\n${text.slice(to)}`;
}
