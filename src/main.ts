#!/usr/bin/env node
// Nothing but types is imported statically: an older Node must get as far as the message below.
import type { CommandLine } from "./cli/command-line.ts";

const OLDEST_NODE = 24;

if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
	process.stderr.write(`auditlog needs Node ${OLDEST_NODE} or newer; this is Node ${process.versions.node}.\n`);
	process.exit(1);
}

process.on("uncaughtException", (error) => void crash(error));
process.on("unhandledRejection", (error) => void crash(error));
// The reader went away (`auditlog query | head`): there is nobody left to tell anything.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
	if (error.code !== "EPIPE") void crash(error);
	else if (commandLine.onReaderGone) commandLine.onReaderGone();
	else process.exit(0);
});
// Whoever does not read what went wrong still gets the exit code.
process.stderr.on("error", (error: NodeJS.ErrnoException) => {
	if (error.code !== "EPIPE") void crash(error);
});

const { processEnvironment } = await import("./config.ts");
const { runCommandLine } = await import("./cli/program.ts");

const commandLine: CommandLine = {
	env: processEnvironment(),
	stdin: process.stdin,
	stdout: process.stdout,
	stderr: process.stderr,
	exitCode: 0,
	untilStopped: stopOnSignals(),
	onHangUp: (listener) => void process.on("SIGHUP", listener),
};
const exitCode = await runCommandLine(process.argv.slice(2), commandLine);
await flushed(process.stdout);
await flushed(process.stderr);
// Idle connections must not keep a finished command waiting.
process.exit(exitCode);

/** The first signal asks whoever waits for it to stop, the second one ends the process; unasked, the first one does. */
function stopOnSignals(): () => Promise<number> {
	const stopped = Promise.withResolvers<number>();
	let isAwaited = false;
	let isStopping = false;
	const onSignal = (exitCode: number) => {
		if (!isAwaited) process.exit(exitCode);
		if (isStopping) process.exit(1);
		isStopping = true;
		stopped.resolve(exitCode);
	};
	process.on("SIGINT", () => onSignal(130));
	process.on("SIGTERM", () => onSignal(143));
	return () => {
		isAwaited = true;
		return stopped.promise;
	};
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
	return new Promise((resolve) => stream.write("", () => resolve()));
}

async function crash(error: unknown): Promise<void> {
	try {
		const { createLogger } = await import("./logger.ts");
		createLogger("fatal").fatal({ err: error }, "crashed");
	} finally {
		process.exit(1);
	}
}
