import type { Argument, Command, Option } from "commander";

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
	const root = visit(program, "");
	const help = { path: "help", words: root[0]?.words ?? [], options: [] };
	return [...root.filter(({ path }) => path !== "help"), help];
}

function visit(command: Command, path: string): CompletedCommand[] {
	const help = command.createHelp();
	const children = help.visibleCommands(command);
	const words = [
		...children.map((child) => ({ word: child.name(), description: child.description() })),
		...command.registeredArguments.flatMap((argument: Argument) =>
			(argument.argChoices ?? []).map((word) => ({ word, description: argument.description })),
		),
	];
	const options = [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)].map(optionOf);
	// What a sub-command takes from its parents is what `--no-color` is: good anywhere.
	const inherited = command.parent
		? command.parent.options.filter(({ long }) => long === "--no-color").map(optionOf)
		: [];
	const own = { path, words, options: [...options, ...inherited] };
	return [own, ...children.flatMap((child) => visit(child, path ? `${path} ${child.name()}` : child.name()))];
}

function optionOf({ short, long, description, required, optional, argChoices }: Option): CompletedOption {
	const flags = [short, long].filter((flag) => flag !== undefined);
	return { flags, description, takesValue: required || optional, choices: argChoices ?? [] };
}
