import type { Command } from "commander";
import type { CommandLine } from "./command-line.ts";
import { discard } from "./dead-letters/discard.ts";
import { list } from "./dead-letters/list.ts";
import { redrive } from "./dead-letters/redrive.ts";
import { show } from "./dead-letters/show.ts";
import { addExamples } from "./examples.ts";

/** `auditlog dead-letters …`: what to do with messages that could not become events. */
export function deadLetters(command: Command, commandLine: CommandLine): void {
	command.addHelpText(
		"after",
		`
A message from NATS, or one event of a batch, that cannot become an event is kept as a dead letter, with its reason, until
somebody redrives it (tries again to make an event of it) or discards it. None is ever deleted. Needs an operator key.`,
	);
	list(command.command("list"), commandLine);
	show(command.command("show"), commandLine);
	redrive(command.command("redrive"), commandLine);
	discard(command.command("discard"), commandLine);
	addExamples(
		command,
		["what is open", "auditlog dead-letters list"],
		["one of them", "ID=$(auditlog dead-letters list -n 1 -o csv | tail -n 1 | cut -d, -f1)"],
		["what it is, and why it could not become an event", 'auditlog dead-letters show "$ID"'],
		["what would become of all if they were tried again", "auditlog dead-letters redrive --all --dry-run"],
	);
}
