import type { Command } from "commander";
import { isUnknown, type ShownSetting, showSettings } from "../config.ts";
import { type CommandLine, EXIT } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { type Format, type Listing, outputOption, printList } from "./output/listing.ts";
import { printable } from "./output/printable.ts";

export const CONFIG: Listing<ShownSetting> = {
	nothing: "no settings",
	table: {
		columns: [
			{ title: "SETTING", text: ({ name }) => name },
			{ title: "VALUE", text: ({ value }) => value, least: 20 },
			{ title: "FROM", text: ({ from }) => from },
			{ title: "PROBLEM", text: ({ problem }) => problem ?? "", least: 20, style: () => "red" },
		],
	},
	csv: [
		{ name: "name", text: ({ name }) => name },
		{ name: "value", text: ({ value }) => value },
		{ name: "from", text: ({ from }) => from },
		{ name: "problem", text: ({ problem }) => problem ?? "" },
	],
	json: ({ name, value, from, problem }) => ({ name, value, from, problem: problem ?? null }),
};

/** `auditlog config`: what `serve` would run with, and what is wrong with it, without any secret. */
export function config(command: Command, commandLine: CommandLine): void {
	command
		.addOption(outputOption())
		.addHelpText(
			"after",
			`
Of a URL neither user, password nor parameters are shown, of another secret its length alone. \`auditlog serve --help\` says
what each setting is for.

Exit codes: 0 \`auditlog serve\` could run with it; 1 a setting is missing or wrong.`,
		)
		.action(async ({ output }: { output: Format }) => {
			const settings = showSettings(commandLine.env);
			await printList(CONFIG, settings, output, commandLine);
			for (const name of Object.keys(commandLine.env).filter(isUnknown))
				commandLine.stderr.write(`${printable(name)} is no setting: it is passed over\n`);
			if (settings.some(({ problem }) => problem !== undefined)) commandLine.exitCode = EXIT.failed;
		});
	addExamples(
		command,
		["before the service is started", "auditlog config"],
		["what is not as it is by default", "auditlog config -o csv | grep -v ,default,"],
	);
}
