import type { Command } from "commander";
import { SETTINGS } from "../config.ts";
import { createLogger } from "../logger.ts";
import { startServer } from "../server.ts";
import type { CommandLine } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { readSettings } from "./settings.ts";

/** `auditlog serve`: runs the service until SIGINT or SIGTERM, then drains and ends. */
export function serve(command: Command, commandLine: CommandLine): void {
	command
		.addHelpText("after", settingsHelp())
		.addHelpText(
			"after",
			"\nSIGINT or SIGTERM: tells callers to go elsewhere, finishes their calls, exits 0. A second one: exits 1.\nSIGHUP: reads the files of TLS again.",
		)
		.action(async () => {
			const stopped = commandLine.untilStopped();
			const config = readSettings(commandLine.env);
			const logger = createLogger(config.logLevel);
			const server = await startServer(config, logger);
			if (config.tls) commandLine.onHangUp?.(() => server.reload());
			await stopped;
			logger.info("stopping");
			await server.close();
			logger.info("stopped");
		});
	addExamples(
		command,
		["with the settings of the environment", "auditlog serve"],
		["on free ports, which it says when it listens", "HTTP_PORT=0 GRPC_PORT=0 auditlog serve"],
	);
}

function settingsHelp(): string {
	const lines = Object.entries(SETTINGS).map(([name, { doc, ...setting }]) => {
		const fallback = "fallback" in setting ? ` Default: ${setting.fallback}.` : "";
		const file = "secret" in setting ? ` Or as a file: ${name}_FILE.` : "";
		return `  ${name}\n      ${doc}${fallback}${file}`;
	});
	return `\nSettings, from the environment:\n${lines.join("\n")}\n`;
}
