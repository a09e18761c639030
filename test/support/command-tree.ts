import { Writable } from "node:stream";
import type { CommandLine } from "../../src/cli/command-line.ts";
import { type CompletedCommand, commandTree } from "../../src/cli/completion/command-tree.ts";
import { loadProgram } from "../../src/cli/program.ts";

/** Every command that `--help` shows, as completion sees them, without `help` itself. */
export async function everyCommand(): Promise<CompletedCommand[]> {
	const stream = new Writable();
	const commandLine = { env: {}, stdout: stream, stderr: stream, exitCode: 0 } as unknown as CommandLine;
	const tree = commandTree(await loadProgram(commandLine, () => true));
	return tree.filter(({ path }) => !/(^| )help$/.test(path));
}
