import type { Readable, Writable } from "node:stream";
import type { Command } from "commander";
import type { Environment } from "../config.ts";

/** What a command may touch of the process it runs in. */
export interface CommandLine {
	readonly env: Environment;
	readonly stdin: Readable & { readonly isTTY?: boolean };
	readonly stdout: Terminal;
	readonly stderr: Terminal;
	/** What the process ends with if nothing is thrown: EXIT.ok unless a command says otherwise. */
	exitCode: number;
	/** `--no-color`. */
	noColour?: boolean;
	/**
	 * What a command that goes on without a reader of its output does when that goes away (`| head`): the output of
	 * `write` is not its work. Without it the process ends at once, exit code 0.
	 */
	onReaderGone?: () => void;
	/**
	 * Resolves when the process is asked to stop (SIGINT, SIGTERM), with the exit code that says so. Whoever calls this stops by
	 * itself; without it the first signal ends the process.
	 */
	untilStopped(): Promise<number>;
	/** Calls the listener at each SIGHUP, which would end the process otherwise. */
	onHangUp?(listener: () => void): void;
}

/** A stream that may be a terminal. */
export interface Terminal extends Writable {
	readonly isTTY?: boolean;
	readonly columns?: number;
}

/** The exit codes, as `--help` and docs/cli.md document them. `verify` gives its own meaning to 1 and 2. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** Adds arguments, options, help and action to the command of one file. */
export type DefineCommand = (command: Command, commandLine: CommandLine) => void;

/** A mistake in how the command was called; exit code 2. The message says what to write instead. */
export class UsageError extends Error {}

/** Something outside of the command is not as it must be; exit code 1. The message says what to do. */
export class CommandError extends Error {}

/** Writes and waits for slow readers, so that memory does not grow with the output. */
export async function print(stream: Terminal, text: string | Uint8Array): Promise<void> {
	if (!stream.write(text)) await new Promise<void>((resolve) => stream.once("drain", resolve));
}
