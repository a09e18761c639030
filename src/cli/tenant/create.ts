import type { Command } from "commander";
import { AuditError } from "../../errors.ts";
import { type CommandLine, print } from "../command-line.ts";
import { addExamples } from "../examples.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { parseName, parseTenantId } from "./tenant-arguments.ts";
import { atDesk, WHERE } from "./tenant-desk.ts";

interface CreateOptions extends AddressOptions {
	name?: string;
}

/** `auditlog tenant create` */
export function create(command: Command, commandLine: CommandLine): void {
	command
		.description("make a tenant and the first event of its log, audit.log.created")
		.argument("<id>", "1 to 128 of A-Z a-z 0-9 . _ : -; it cannot be changed or taken away")
		.option("--name <name>", "what people call it; as the id if it is left out");
	addAddressOptions(command)
		.addHelpText("after", `\nA tenant that exists is left as it is.\n${WHERE}`)
		.action((id: string, options: CreateOptions) => run(commandLine, id, options));
	addExamples(
		command,
		["with the name people know it by", 'auditlog tenant create acme --name "Acme, Inc."'],
		["again: nothing is changed", "auditlog tenant create acme"],
	);
}

async function run(commandLine: CommandLine, given: string, options: CreateOptions): Promise<void> {
	const id = parseTenantId(given);
	const name = options.name === undefined ? undefined : parseName("--name", options.name);
	const isNew = await atDesk(commandLine, options, (desk) =>
		desk.create(id, name).then(
			({ changed }) => changed,
			(error: unknown) => {
				if (error instanceof AuditError && error.reason === "TENANT_NAMED_OTHERWISE") return false;
				throw error;
			},
		),
	);
	await print(commandLine.stdout, isNew ? `created ${id}\n` : `${id} exists; nothing was changed\n`);
}
