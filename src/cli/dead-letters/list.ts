import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { createDeadLetterClient } from "../../client/index.ts";
import { microsOf, rfc3339 } from "../../event/time.ts";
import {
	type DeadLetter,
	DeadLetterSchema,
	DeadLetterState,
	DeadLetterStateSchema,
} from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { restJson } from "../../rpc/rest-json.ts";
import { type CommandLine } from "../command-line.ts";
import { parseWord, wordFor, wordsOf } from "../enum-words.ts";
import { addExamples } from "../examples.ts";
import { parseLimit } from "../limit-option.ts";
import { type Format, type Listing, ListOutput, outputOption } from "../output/listing.ts";
import { type AddressOptions, addAddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";
import { addFilterOptions, type FilterOptions, filterOf } from "./letter-filter.ts";

interface ListOptions extends AddressOptions, FilterOptions {
	state: string;
	limit: number;
	pageToken?: string;
	output: Format;
}

/** The service answers with no more letters at once. */
const LARGEST_PAGE = 200;

/** `auditlog dead-letters list` */
export function list(command: Command, commandLine: CommandLine): void {
	command.description("list dead letters, the newest of the stream first");
	addFilterOptions(command)
		.option("--state <word>", `any, ${wordsOf(DeadLetterStateSchema).join(", ")}`, "open")
		.option("-n, --limit <count>", "how many letters at most", parseLimit, 50)
		.option("--page-token <token>", "go on where an earlier list with the same filters ended")
		.addOption(outputOption());
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
If there are more letters than --limit, what to add to the same command to go on is printed on standard error. docs/cli.md
names the columns of CSV.`,
		)
		.action((options: ListOptions) => run(commandLine, options));
	addExamples(
		command,
		["what is open, newest first", "auditlog dead-letters list"],
		[
			"what one tenant's producers did wrong today",
			"auditlog dead-letters list --tenant globex --reason INVALID_EVENT UNDECODABLE_JSON --since 24h",
		],
		[
			"all there ever were, into a file; memory does not grow with it",
			"auditlog dead-letters list --state any --limit 100000 -o ndjson > letters.ndjson",
		],
		[
			"how many are open, by reason",
			"auditlog dead-letters list -n 10000 -o csv | tail -n +2 | cut -d, -f4 | sort | uniq -c",
		],
	);
}

async function run(commandLine: CommandLine, options: ListOptions): Promise<void> {
	const client = createDeadLetterClient(findService(commandLine, options));
	const state = options.state === "any" ? undefined : parseWord(DeadLetterStateSchema, "--state", options.state);
	const filter = filterOf(options, state ?? DeadLetterState.UNSPECIFIED);
	const output = new ListOutput(LETTERS, options.output, commandLine);
	let found = 0;
	let pageToken = options.pageToken ?? "";
	do {
		const pageSize = Math.min(LARGEST_PAGE, options.limit - found);
		const page = await asAuditErrors(() => client.listDeadLetters({ filter, pageSize, pageToken }));
		found += page.deadLetters.length;
		await output.write(page.deadLetters);
		pageToken = page.nextPageToken;
	} while (pageToken !== "" && found < options.limit);
	await output.end();
	if (pageToken !== "") commandLine.stderr.write(`there are more: --page-token ${pageToken}\n`);
}

/** How dead letters are printed. docs/cli.md names the CSV columns. */
export const LETTERS: Listing<DeadLetter> = {
	nothing: "no dead letters",
	table: {
		columns: [
			{ title: "ID", text: ({ id }) => id },
			{ title: "STATE", text: ({ state }) => wordFor(DeadLetterStateSchema, state) },
			{ title: "TENANT", text: ({ tenantId }) => tenantId || "-", least: 8 },
			{ title: "RECEIVED", text: ({ receivedAt }) => secondOf(receivedAt) },
			{ title: "REASON", text: ({ reason }) => reason },
			{ title: "MESSAGE", text: ({ message }) => message, least: 16 },
		],
		leftOut: [["RECEIVED"], ["RECEIVED", "STATE"], ["RECEIVED", "STATE", "TENANT"]],
	},
	csv: [
		{ name: "id", text: ({ id }) => id },
		{ name: "state", text: ({ state }) => wordFor(DeadLetterStateSchema, state) },
		{ name: "tenant_id", text: ({ tenantId }) => tenantId },
		{ name: "reason", text: ({ reason }) => reason },
		{ name: "message", text: ({ message }) => message },
		{ name: "subject", text: ({ subject }) => subject },
		{ name: "published_at", text: ({ publishedAt }) => timeText(publishedAt) },
		{ name: "received_at", text: ({ receivedAt }) => timeText(receivedAt) },
		{ name: "body_size", text: ({ bodySize }) => String(bodySize) },
		{ name: "stream_created", text: ({ streamCreated }) => timeText(streamCreated) },
		{ name: "stream_seq", text: ({ streamSeq }) => String(streamSeq) },
		{ name: "position", text: ({ position }) => String(position) },
	],
	json: (letter) => restJson(DeadLetterSchema, letter),
};

/** To the second: which one of many it is, the id says. */
function secondOf(time: Timestamp | undefined): string {
	return time ? `${new Date(timestampMs(time)).toISOString().slice(0, 19)}Z` : "";
}

function timeText(time: Timestamp | undefined): string {
	return time ? rfc3339(microsOf(time)) : "";
}
