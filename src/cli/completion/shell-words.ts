import type { CompletedCommand, CompletedOption } from "./command-tree.ts";

/** A text as one word of bash, zsh or fish. */
export function quoted(text: string): string {
	return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Every step from a command to a sub-command, as `key create`, or ` key` from the first: patterns of a `case`. */
export function steps(tree: readonly CompletedCommand[]): string[] {
	return tree.filter(({ path }) => path !== "").map(({ path }) => (path.includes(" ") ? path : ` ${path}`));
}

/** The options that take a value, as they are found: command and flag, `key create --role`. */
export function valued({ path, options }: CompletedCommand): { at: string[]; option: CompletedOption }[] {
	return options
		.filter(({ takesValue }) => takesValue)
		.map((option) => ({ at: option.flags.map((flag) => `${path} ${flag}`), option }));
}
