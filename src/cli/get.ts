import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import { CommandError, type CommandLine, print } from "./command-line.ts";
import { eventJson } from "./event-json.ts";
import { eventTable } from "./event-table.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";
import { asAuditErrors } from "./service-call.ts";
import { parseTime } from "./time-option.ts";

interface GetOptions extends AddressOptions {
	tenant?: string;
	occurredAt?: string;
	output: "table" | "json" | "ndjson";
}

/** `auditlog get`: shows one event. */
export function get(command: Command, commandLine: CommandLine): void {
	command
		.argument("<id>", "the event's id")
		.option("-t, --tenant <id>", "its tenant; may be left out with a key for one tenant")
		.option("--occurred-at <time>", "its time; needed only where the same id exists at several times")
		.addOption(
			new Option("-o, --output <format>", "how to print").choices(["table", "json", "ndjson"]).default("json"),
		);
	addAddressOptions(command)
		.addHelpText("after", "\nExample:\n  auditlog get --tenant acme 0198c0de-0000-7000-8000-000000000001")
		.action(async (id: string, options: GetOptions) => {
			const client = createAuditClient(findService(commandLine, options));
			const occurredAt = options.occurredAt && parseTime("--occurred-at", options.occurredAt, Date.now());
			const request = { tenantId: options.tenant ?? "", id, ...(occurredAt && { occurredAt }) };
			const { event } = await asAuditErrors(() => client.getEvent(request));
			if (!event) throw new CommandError("the service answered without an event");
			const { stdout } = commandLine;
			if (options.output === "table") await print(stdout, eventTable([event], stdout));
			else await print(stdout, `${eventJson(event, options.output === "json" ? 2 : 0)}\n`);
		});
}
