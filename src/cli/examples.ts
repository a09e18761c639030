import type { Command } from "commander";

/** A command line that works as it stands, and what it does. */
export type Example = readonly [does: string, line: string];

/**
 * Ends a command's help with examples. They are for a running `make run`, with its demo tenants and keys, in a clone:
 * test/integration/cli-examples.test.ts runs every one.
 */
export function addExamples(command: Command, ...examples: Example[]): Command {
	const lines = examples.map(([does, line]) => `  # ${does}\n  ${line}\n`);
	return command.addHelpText("after", `\nExamples:\n${lines.join("")}`);
}
