import type { Command } from "commander";
import type { CommandLine } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { create } from "./tenant/create.ts";
import { list } from "./tenant/list.ts";
import { rename } from "./tenant/rename.ts";
import { disable, enable } from "./tenant/switch.ts";
import { WHERE } from "./tenant/tenant-desk.ts";

/** `auditlog tenant …`: the tenants there are, through the service or straight against the database. */
export function tenant(command: Command, commandLine: CommandLine): void {
	command.addHelpText(
		"after",
		`
A tenant is one customer's log. It is never deleted; a disabled one takes no events and is read by operators alone, until it
is enabled again. Every change is an event of that log.
${WHERE}`,
	);
	create(command.command("create"), commandLine);
	list(command.command("list"), commandLine);
	rename(command.command("rename"), commandLine);
	disable(command.command("disable"), commandLine);
	enable(command.command("enable"), commandLine);
	addExamples(
		command,
		["a tenant, and the first event of its log", 'auditlog tenant create acme --name "Acme, Inc."'],
		["those there are", "auditlog tenant list"],
	);
}
