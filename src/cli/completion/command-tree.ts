import type { Command, Option } from "commander";

/** What can be completed after a command: its sub-commands, arguments and options. */
export interface CompletedCommand {
	/** The names that lead to it: `key create`; empty for `auditlog` itself. */
	path: string;
	words: CompletedWord[];
	options: CompletedOption[];
}

export interface CompletedWord {
	word: string;
	description: string;
}

export interface CompletedOption {
	/** `-o` and `--output`. */
	flags: string[];
	description: string;
	takesValue: boolean;
	/** The values there are; empty: anything, or a file. */
	choices: readonly string[];
}

/** Every command of a program, as its help shows them: what is hidden there is not completed. */
export function commandTree(program: Command): CompletedCommand[] {
	// Of the program's own options those that are good after any command, too.
	const everywhere = program.options.filter((option) => option.attributeName() !== "version").map(optionOf);
	const [root, ...commands] = visit(program, "", everywhere);
	if (!root) throw new Error("a program is a command itself");
	const help = { path: "help", words: root.words, options: [] };
	return [root, ...commands.filter(({ path }) => path !== "help"), help];
}

function visit(command: Command, path: string, everywhere: CompletedOption[]): CompletedCommand[] {
	const help = command.createHelp();
	const children = help.visibleCommands(command);
	const choices = command.registeredArguments.flatMap(({ argChoices = [], description }) =>
		argChoices.map((word) => ({ word, description })),
	);
	const words = [...children.map((child) => ({ word: child.name(), description: child.description() })), ...choices];
	const own = help.visibleOptions(command).map(optionOf);
	const options = command.parent ? [...own, ...everywhere] : own;
	const below = children.flatMap((child) => visit(child, `${path} ${child.name()}`.trim(), everywhere));
	return [{ path, words, options }, ...below];
}

function optionOf({ short, long, description, required, optional, argChoices }: Option): CompletedOption {
	const flags = [short, long].filter((flag) => flag !== undefined);
	return { flags, description, takesValue: required || optional, choices: argChoices ?? [] };
}
