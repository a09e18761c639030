import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";

/** What a finished command left. */
export interface CliResult {
	readonly exitCode: number | null;
	readonly stdout: string;
	readonly stderr: string;
}

const ROOT = join(import.meta.dirname, "..", "..");

/** Runs `auditlog` with arguments, an environment of nothing but what is given, and something on standard input. */
export async function runCli(
	args: readonly string[],
	env: Readonly<Record<string, string>> = {},
	stdin: string | Buffer = "",
): Promise<CliResult> {
	// A developer's own `make run` must not be found.
	const child = spawn(process.execPath, ["src/main.ts", ...args], {
		cwd: ROOT,
		env: { DATA_DIR: "no-such-directory", ...env },
	});
	const closed = once(child, "close");
	// A command that refuses its arguments does not wait for its input.
	child.stdin.on("error", () => {}).end(stdin);
	const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
	return { exitCode: child.exitCode, stdout, stderr };
}
