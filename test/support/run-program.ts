import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";

/** What a finished program left. */
export interface ProgramResult {
	readonly exitCode: number | null;
	readonly stdout: string;
	readonly stderr: string;
}

/** Runs a program to its end, with the environment given and nothing of the developer's own beside the way to find programs. */
export async function runProgram(
	command: string,
	args: readonly string[],
	options: { cwd: string; env?: Readonly<Record<string, string>>; uid?: number; gid?: number },
): Promise<ProgramResult> {
	const { PATH = "", HOME = "" } = process.env;
	const child = spawn(command, args, {
		...options,
		env: { PATH, HOME, ...options.env },
		stdio: ["ignore", "pipe", "pipe"],
	});
	const closed = once(child, "close");
	const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
	return { exitCode: child.exitCode, stdout, stderr };
}
