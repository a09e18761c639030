import type { Command } from "commander";
import { loadDev } from "./clone-only.ts";
import { type CommandLine, print } from "./command-line.ts";

/** `auditlog dev`, what `make run` calls: the service with a PostgreSQL and a NATS of its own, until told to stop. */
export function dev(command: Command, commandLine: CommandLine): void {
	command.action(async () => {
		const { startDev } = await loadDev();
		const stopped = commandLine.untilStopped();
		const running = await startDev(commandLine.env);
		await stopped;
		await running.stop();
		await print(commandLine.stdout, "Stopped; the data is kept.\n");
	});
}
