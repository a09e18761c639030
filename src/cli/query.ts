import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import { Order, type QueryRequest } from "../gen/audit/v1/audit_service_pb.ts";
import { type CommandLine } from "./command-line.ts";
import { EVENTS } from "./event-listing.ts";
import { addExamples } from "./examples.ts";
import { addFilterOptions, FILTERS_HELP, type FilterOptions, filtersOf, fixedTimes } from "./filter-options.ts";
import { parseLimit } from "./limit-option.ts";
import { type Format, ListOutput, outputOption } from "./output/listing.ts";
import { Progress } from "./progress.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";
import { asAuditErrors } from "./service-call.ts";

interface QueryOptions extends AddressOptions, FilterOptions {
	tenant?: string;
	limit: number;
	pageToken?: string;
	order: "newest" | "oldest";
	output: Format;
}

/** The service answers with no more events at once. */
const LARGEST_PAGE = 1000;

/** `auditlog query`: searches a tenant's events. */
export function query(command: Command, commandLine: CommandLine): void {
	command.option("-t, --tenant <id>", "the tenant to search; may be left out with a key for one tenant");
	addFilterOptions(command)
		.option("-n, --limit <count>", "how many events at most", parseLimit, 50)
		.option("--page-token <token>", "go on where an earlier query with the same filters ended")
		.addOption(new Option("--order <order>", "which come first").choices(["newest", "oldest"]).default("newest"))
		.addOption(outputOption());
	addAddressOptions(command)
		.addHelpText(
			"after",
			`${FILTERS_HELP} If there are more events than --limit, what to add to the same command to go on is printed on standard
error. docs/cli.md names the columns of CSV.`,
		)
		.action((options: QueryOptions) => run(commandLine, options));
	addExamples(
		command,
		["what happened today", "auditlog query --tenant globex --since 24h"],
		[
			"what was refused, of all actions that begin so",
			"auditlog query --tenant globex --action 'user.*' --outcome denied failure",
		],
		[
			"everything that somebody had a part in, into a file; memory does not grow with it",
			"auditlog query --tenant globex --touching user-123 --limit 100000 -o ndjson > user-123.ndjson",
		],
		[
			"by words of descriptions and names, for a spreadsheet, but not what was done to files",
			"auditlog query --tenant globex --text 'report export*' --not-action 'file.*' -o csv > reports.csv",
		],
	);
}

async function run(commandLine: CommandLine, options: QueryOptions): Promise<void> {
	const { stdout, stderr } = commandLine;
	const client = createAuditClient(findService(commandLine, options));
	const request = requestOf(options);
	const output = new ListOutput(EVENTS, options.output, commandLine);
	// On the screen the events themselves show how far it is.
	const progress = stdout.isTTY ? undefined : new Progress(stderr);
	let found = 0;
	try {
		do {
			request.pageSize = Math.min(LARGEST_PAGE, options.limit - found);
			const { events, nextPageToken } = await asAuditErrors(() => client.query(request));
			found += events.length;
			await output.write(events);
			request.pageToken = nextPageToken;
			progress?.show("reading", found, undefined, () => `${found.toLocaleString("en")} events`);
		} while (request.pageToken !== "" && found < options.limit);
		await output.end();
	} finally {
		progress?.clear();
	}
	if (request.pageToken !== "")
		stderr.write(`there are more: --page-token ${request.pageToken}${fixedTimes(options, request)}\n`);
}

function requestOf(options: QueryOptions): QueryRequest {
	const request = filtersOf(options, Date.now());
	request.tenantId = options.tenant ?? "";
	request.pageToken = options.pageToken ?? "";
	request.order = options.order === "oldest" ? Order.OLDEST_FIRST : Order.NEWEST_FIRST;
	return request;
}
