import type { Command } from "commander";
import { type CommandLine, print } from "../command-line.ts";
import { addExamples } from "../examples.ts";
import { printable } from "../output/printable.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { parseName, parseTenantId } from "./tenant-arguments.ts";
import { atDesk, WHERE } from "./tenant-desk.ts";

/** `auditlog tenant rename` */
export function rename(command: Command, commandLine: CommandLine): void {
	command
		.description("give a tenant another name; its id stays")
		.argument("<id>", "the tenant")
		.argument("<name>", "what people call it from now on");
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
Told in the tenant's log as audit.tenant.renamed. The service lets a tenant's own admin do this.
${WHERE}`,
		)
		.action((id: string, name: string, options: AddressOptions) => run(commandLine, id, name, options));
	addExamples(
		command,
		["the name people know it by has changed", 'auditlog tenant rename globex "Globex Corporation"'],
		["and back again", "auditlog tenant rename globex Globex"],
	);
}

async function run(commandLine: CommandLine, given: string, newName: string, options: AddressOptions): Promise<void> {
	const id = parseTenantId(given);
	const name = parseName("the name", newName);
	const { changed } = await atDesk(commandLine, options, (desk) => desk.rename(id, name));
	const now = `${id} is called ${printable(name)}`;
	await print(commandLine.stdout, changed ? `${now} now\n` : `${now}; nothing was changed\n`);
}
