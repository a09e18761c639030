import type { Command } from "commander";
import { loadDev } from "./clone-only.ts";
import { type CommandLine, print } from "./command-line.ts";
import { migrationText } from "./migrate.ts";

/** `auditlog dev-setup`, what `make dev-setup` calls: migrates the database `make run` would use. */
export function devSetup(command: Command, commandLine: CommandLine): void {
	command.action(async () => {
		const { setUpDev } = await loadDev();
		await print(commandLine.stdout, migrationText(await setUpDev(commandLine.env)));
	});
}
