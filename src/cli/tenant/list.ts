import type { Command } from "commander";
import type { Micros } from "../../event/event.ts";
import { rfc3339 } from "../../event/time.ts";
import type { TenantState } from "../../storage/tenants.ts";
import type { CommandLine } from "../command-line.ts";
import { addExamples } from "../examples.ts";
import { type Format, type Listing, ListOutput, outputOption } from "../output/listing.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { atDesk, WHERE } from "./tenant-desk.ts";

interface ListOptions extends AddressOptions {
	output: Format;
}

/** `auditlog tenant list` */
export function list(command: Command, commandLine: CommandLine): void {
	command.description("show the tenants there are").addOption(outputOption());
	addAddressOptions(command)
		.addHelpText("after", `\nThe service shows a key its own tenants.\n${WHERE}`)
		.action((options: ListOptions) => run(commandLine, options));
	addExamples(
		command,
		["every tenant, oldest first", "auditlog tenant list"],
		["how many there are", "auditlog tenant list -o ndjson | wc -l"],
	);
}

async function run(commandLine: CommandLine, options: ListOptions): Promise<void> {
	const output = new ListOutput(TENANTS, options.output, commandLine);
	await atDesk(commandLine, options, async (desk) => {
		let pageToken = "";
		do {
			const page = await desk.list(pageToken);
			await output.write(page.tenants);
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
	});
	await output.end();
}

/** How tenants are printed. docs/cli.md names the CSV columns. */
export const TENANTS: Listing<TenantState> = {
	nothing: "no tenants; `auditlog tenant create` makes one",
	table: {
		columns: [
			{ title: "ID", text: ({ id }) => id, least: 12 },
			{ title: "NAME", text: ({ name }) => name, least: 12 },
			{ title: "CREATED", text: ({ createdAt }) => secondOf(createdAt) },
			{ title: "DISABLED", text: ({ disabledAt }) => (disabledAt === undefined ? "-" : secondOf(disabledAt)) },
		],
		leftOut: [["CREATED"]],
	},
	csv: [
		{ name: "id", text: ({ id }) => id },
		{ name: "name", text: ({ name }) => name },
		{ name: "created_at", text: ({ createdAt }) => rfc3339(createdAt) },
		{ name: "disabled_at", text: ({ disabledAt }) => (disabledAt === undefined ? "" : rfc3339(disabledAt)) },
	],
	json: ({ id, name, createdAt, disabledAt }) => ({
		id,
		name,
		created_at: rfc3339(createdAt),
		...(disabledAt !== undefined && { disabled_at: rfc3339(disabledAt) }),
	}),
};

function secondOf(time: Micros): string {
	return `${rfc3339(time).slice(0, 19)}Z`;
}
