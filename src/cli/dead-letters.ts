import type { Command } from "commander";
import type { CommandLine } from "./command-line.ts";
import { discard } from "./dead-letters/discard.ts";
import { list } from "./dead-letters/list.ts";
import { redrive } from "./dead-letters/redrive.ts";
import { show } from "./dead-letters/show.ts";

/** `auditlog dead-letters …`: what to do with messages that could not become events. */
export function deadLetters(command: Command, commandLine: CommandLine): void {
	command.addHelpText(
		"after",
		`
A message from NATS, or one event of a batch, that cannot become an event is kept as a dead letter, with its reason, until
somebody redrives it (tries again to make an event of it) or discards it. None is ever deleted. Needs an operator key.

Examples:
  auditlog dead-letters list
  auditlog dead-letters show mb1x3k7q-26-0
  auditlog dead-letters redrive --reason TENANT_NOT_FOUND --dry-run
  auditlog dead-letters redrive --reason TENANT_NOT_FOUND --yes
  auditlog dead-letters discard mb1x3k7q-26-0 --reason "a test of ours, see OPS-112"`,
	);
	list(command.command("list"), commandLine);
	show(command.command("show"), commandLine);
	redrive(command.command("redrive"), commandLine);
	discard(command.command("discard"), commandLine);
}
