import type { Command } from "commander";
import { type CommandLine, print } from "../command-line.ts";
import { addExamples } from "../examples.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { parseReason, parseTenantId } from "./tenant-arguments.ts";
import { atDesk, WHERE } from "./tenant-desk.ts";

interface SwitchOptions extends AddressOptions {
	reason?: string;
}

/** `auditlog tenant disable` */
export function disable(command: Command, commandLine: CommandLine): void {
	command
		.description("let no more events into a tenant's log, and nobody but operators read it")
		.argument("<id>", "the tenant")
		.requiredOption("--reason <text>", "why, for those who ask later");
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
It holds within 30 seconds. Nothing is deleted; what comes from NATS is kept as dead letters, which can be redriven once the
tenant is enabled again. Told in the tenant's log as audit.tenant.disabled.
${WHERE}`,
		)
		.action((id: string, options: SwitchOptions) => run(commandLine, id, true, options));
	addExamples(
		command,
		["a customer that has left, or may not write for now", 'auditlog tenant create hooli --name "Hooli"'],
		["its log is kept, and closed", 'auditlog tenant disable hooli --reason "contract ended, see OPS-204"'],
	);
}

/** `auditlog tenant enable` */
export function enable(command: Command, commandLine: CommandLine): void {
	command
		.description("open a disabled tenant's log again")
		.argument("<id>", "the tenant")
		.option("--reason <text>", "why, for those who ask later");
	addAddressOptions(command)
		.addHelpText("after", `\nIt holds within 30 seconds. Told in the tenant's log as audit.tenant.enabled.\n${WHERE}`)
		.action((id: string, options: SwitchOptions) => run(commandLine, id, false, options));
	addExamples(
		command,
		["the customer is back", 'auditlog tenant enable globex --reason "contract renewed, see OPS-205"'],
		[
			"what came from NATS meanwhile, as if it came now; without --dry-run and with --yes",
			"auditlog dead-letters redrive --tenant globex --reason TENANT_DISABLED --dry-run",
		],
	);
}

async function run(
	commandLine: CommandLine,
	given: string,
	isDisabled: boolean,
	options: SwitchOptions,
): Promise<void> {
	const id = parseTenantId(given);
	const reason = options.reason === undefined ? "" : parseReason(options.reason);
	const { changed } = await atDesk(commandLine, options, (desk) => desk.setDisabled(id, isDisabled, reason));
	const now = `${id} is ${isDisabled ? "disabled" : "enabled"}`;
	const holds = "; it holds in every replica within 30 seconds";
	await print(commandLine.stdout, `${now}${changed ? holds : "; nothing was changed"}\n`);
}
