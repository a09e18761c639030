import type { Command } from "commander";
import { createAuditClient } from "../client/index.ts";
import { CommandError, type CommandLine, print } from "./command-line.ts";
import { eventJson } from "./event-json.ts";
import { EVENTS } from "./event-listing.ts";
import { addExamples } from "./examples.ts";
import { type Format, outputOption, printList } from "./output/listing.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";
import { asAuditErrors } from "./service-call.ts";
import { parseTime } from "./time-option.ts";

interface GetOptions extends AddressOptions {
	tenant?: string;
	occurredAt?: string;
	output: Format;
}

/** `auditlog get`: shows one event. */
export function get(command: Command, commandLine: CommandLine): void {
	command
		.argument("<id>", "the event's id")
		.option("-t, --tenant <id>", "its tenant; may be left out with a key for one tenant")
		.option("--occurred-at <time>", "its time; needed only where the same id exists at several times")
		.addOption(outputOption("json"));
	addAddressOptions(command)
		.addHelpText("after", "\nJSON is the one format that shows all of an event.")
		.action(async (id: string, options: GetOptions) => {
			const client = createAuditClient(findService(commandLine, options));
			const occurredAt = options.occurredAt && parseTime("--occurred-at", options.occurredAt, Date.now());
			const request = { tenantId: options.tenant ?? "", id, ...(occurredAt && { occurredAt }) };
			const { event } = await asAuditErrors(() => client.getEvent(request));
			if (!event) throw new CommandError("the service answered without an event");
			if (options.output === "json") await print(commandLine.stdout, `${eventJson(event, 2)}\n`);
			else await printList(EVENTS, [event], options.output, commandLine);
		});
	addExamples(
		command,
		["all of an event", "auditlog get --tenant globex 0198c0de-0000-7000-8000-000000000001"],
		["in one line", "auditlog get --tenant globex 0198c0de-0000-7000-8000-000000000001 -o table"],
	);
}
