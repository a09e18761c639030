import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { CannotStart } from "./cannot-start.ts";

/** A server of ours that runs beside this process. */
export interface BackgroundProcess {
	readonly pid: number;
	/** Resolves when it is gone, however that came about. */
	readonly exited: Promise<void>;
	/** Asks it to end and waits until it is gone. Does nothing when it is gone already. */
	stop(): Promise<void>;
}

export interface BackgroundProcessOptions {
	command: string;
	args: readonly string[];
	env: Readonly<Record<string, string>>;
	/** Emptied at the start; standard output and error go there. */
	logFile: string;
	/** What the log says once the server takes connections. */
	ready: RegExp;
	uid?: number;
	gid?: number;
	/** Asks for an orderly end, and what to send when that takes longer than `stopDeadlineMs`. */
	stopSignal: NodeJS.Signals;
	lastSignal: NodeJS.Signals;
	stopDeadlineMs: number;
	startDeadlineMs: number;
}

/** The server ended before it was ready, or never became it. `log` is what it said. */
export class StartFailed extends CannotStart {
	readonly log: string;

	constructor(message: string, log: string) {
		super(`${message}; its log ends:\n${log.trimEnd().split("\n").slice(-15).join("\n")}`);
		this.name = "StartFailed";
		this.log = log;
	}
}

/**
 * Starts a server in a session of its own, so that Ctrl-C on the terminal does not reach it: the service must drain
 * before what it drains into goes away. Its output goes to a file, because a pipe would break with this process.
 */
export async function startInBackground(options: BackgroundProcessOptions): Promise<BackgroundProcess> {
	const log = openSync(options.logFile, "w", 0o600);
	const child = spawn(options.command, options.args, {
		cwd: "/",
		env: options.env,
		detached: true,
		stdio: ["ignore", log, log],
		...(options.uid === undefined ? {} : { uid: options.uid }),
		...(options.gid === undefined ? {} : { gid: options.gid }),
	});
	closeSync(log);
	const exited = once(child, "exit").then(
		() => {},
		(error: Error) => {
			throw new StartFailed(`${options.command} cannot be started: ${error.message}`, "");
		},
	);
	await Promise.race([once(child, "spawn"), exited]);
	// Whoever ends this process in a hurry (a second Ctrl-C) must not leave it behind.
	const endWithUs = () => void child.kill(options.lastSignal);
	process.once("exit", endWithUs);
	void exited.then(() => process.off("exit", endWithUs));
	const server = { pid: child.pid as number, exited, stop: () => stopChild(child, exited, options) };
	try {
		await waitUntilReady(child, options);
	} catch (error) {
		await server.stop();
		throw error;
	}
	// Nothing waits for it until stop() is called: it must not keep this process alive.
	child.unref();
	return server;
}

async function waitUntilReady(child: ChildProcess, options: BackgroundProcessOptions): Promise<void> {
	const deadline = Date.now() + options.startDeadlineMs;
	for (;;) {
		const ended = hasEnded(child);
		const log = readFileSync(options.logFile, "utf8");
		if (ended) throw new StartFailed(`${options.command} ended (${child.exitCode ?? child.signalCode})`, log);
		if (options.ready.test(log)) return;
		if (Date.now() > deadline) {
			throw new StartFailed(`${options.command} was not ready after ${options.startDeadlineMs} ms`, log);
		}
		await sleep(5);
	}
}

async function stopChild(
	child: ChildProcess,
	exited: Promise<void>,
	{ stopSignal, lastSignal, stopDeadlineMs }: BackgroundProcessOptions,
): Promise<void> {
	if (hasEnded(child)) return;
	child.ref();
	child.kill(stopSignal);
	const timer = setTimeout(() => child.kill(lastSignal), stopDeadlineMs);
	await exited;
	clearTimeout(timer);
}

function hasEnded(child: ChildProcess): boolean {
	return child.exitCode !== null || child.signalCode !== null;
}
