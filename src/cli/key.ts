import type { Command } from "commander";
import type { CommandLine } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { WAYS } from "./key/access.ts";
import { create } from "./key/create.ts";
import { list } from "./key/list.ts";
import { revoke } from "./key/revoke.ts";
import { rotate } from "./key/rotate.ts";

/** `auditlog key …`: API keys. */
export function key(command: Command, commandLine: CommandLine): void {
	command.addHelpText("after", `\n${WAYS}`);
	create(command.command("create"), commandLine);
	list(command.command("list"), commandLine);
	rotate(command.command("rotate"), commandLine);
	revoke(command.command("revoke"), commandLine);
	addExamples(
		command,
		["the keys there are; their secrets are not stored", "auditlog key list"],
		[
			"a key for a backend that only writes",
			'auditlog key create --role writer --tenant globex --name "billing service"',
		],
	);
}
