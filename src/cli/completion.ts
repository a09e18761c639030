import { Argument, type Command } from "commander";
import { type CommandLine, print } from "./command-line.ts";
import { bashCompletion } from "./completion/bash.ts";
import { commandTree } from "./completion/command-tree.ts";
import { fishCompletion } from "./completion/fish.ts";
import { zshCompletion } from "./completion/zsh.ts";
import { addExamples } from "./examples.ts";

const SHELLS = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;
type Shell = keyof typeof SHELLS;

/** `auditlog completion`: a script that makes a shell complete commands, options and their values. */
export function completion(command: Command, commandLine: CommandLine): void {
	command
		.addArgument(new Argument("<shell>", "which shell").choices(Object.keys(SHELLS)))
		.addHelpText(
			"after",
			`
To have it in every new shell:
  bash  in ~/.bashrc:  source <(auditlog completion bash)
  zsh   in ~/.zshrc, after compinit:  source <(auditlog completion zsh)
  fish  auditlog completion fish > ~/.config/fish/completions/auditlog.fish`,
		)
		.action(async (shell: Shell) => {
			const program = command.parent;
			if (!program) throw new Error("completion is a command of a program");
			await print(commandLine.stdout, SHELLS[shell](commandTree(program)));
		});
	addExamples(
		command,
		["for the bash you are in", "source <(auditlog completion bash)"],
		["for every fish", "auditlog completion fish > auditlog.fish"],
	);
}
