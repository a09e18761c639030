import { readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { natsConfigPath } from "./nats.ts";
import { commandLine, isRunning } from "./process-info.ts";

/**
 * Ends the PostgreSQL and the nats-server that a killed run left behind in its data directories, and removes their pid
 * files. A process is ended only if its command line names the directory: the number may be somebody else's by now.
 */
export async function endLeftovers(directories: { postgres?: string; nats?: string }): Promise<void> {
	if (directories.postgres !== undefined) {
		const cluster = join(resolve(directories.postgres), "cluster");
		await end(join(cluster, "postmaster.pid"), cluster, "SIGINT");
	}
	if (directories.nats !== undefined) {
		const config = natsConfigPath(directories.nats);
		await end(join(resolve(directories.nats), "nats.pid"), config, "SIGTERM");
	}
}

async function end(pidFile: string, mark: string, signal: NodeJS.Signals): Promise<void> {
	const pid = readPid(pidFile);
	if (pid === undefined) return;
	if (commandLine(pid).includes(mark)) await endProcess(pid, signal);
	// PostgreSQL would take a stranger with the old number for itself, and not start.
	rmSync(pidFile, { force: true });
}

/** The number on a pid file's first line. */
function readPid(pidFile: string): number | undefined {
	try {
		const pid = Number.parseInt(readFileSync(pidFile, "utf8"), 10);
		return pid > 1 ? pid : undefined;
	} catch {
		return undefined;
	}
}

/** Asks a process to end and waits until it is gone; kills it when it takes too long. */
export async function endProcess(pid: number, signal: NodeJS.Signals, deadlineMs = 15_000): Promise<void> {
	let deadline = Date.now() + deadlineMs;
	send(pid, signal);
	while (isRunning(pid)) {
		if (Date.now() > deadline) {
			send(pid, "SIGKILL");
			deadline = Number.POSITIVE_INFINITY;
		}
		await sleep(20);
	}
}

function send(pid: number, signal: NodeJS.Signals): void {
	try {
		process.kill(pid, signal);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
	}
}
