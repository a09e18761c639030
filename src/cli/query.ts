import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import { Order, type QueryRequest } from "../gen/audit/v1/audit_service_pb.ts";
import type { Event } from "../gen/audit/v1/event_pb.ts";
import { type CommandLine, print, UsageError } from "./command-line.ts";
import { eventJson } from "./event-json.ts";
import { eventTable } from "./event-table.ts";
import { addFilterOptions, FILTERS_HELP, type FilterOptions, filtersOf, fixedTimes } from "./filter-options.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";
import { asAuditErrors } from "./service-call.ts";

interface QueryOptions extends AddressOptions, FilterOptions {
	tenant?: string;
	limit: number;
	pageToken?: string;
	order: "newest" | "oldest";
	output: "table" | "json" | "ndjson";
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
		.addOption(
			new Option("-o, --output <format>", "how to print").choices(["table", "json", "ndjson"]).default("table"),
		);
	addAddressOptions(command)
		.addHelpText(
			"after",
			`${FILTERS_HELP} If there are more events than --limit, what to add to the same command to go on is printed on standard
error.

Examples:
  auditlog query --tenant acme --since 24h
  auditlog query --tenant acme --action 'user.*' --outcome denied failure
  auditlog query --tenant acme --resource invoice:4711 --output ndjson --limit 100000 > invoice.ndjson`,
		)
		.action((options: QueryOptions) => run(commandLine, options));
}

function parseLimit(text: string): number {
	if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageError("--limit must be a number from 1");
	return Number(text);
}

async function run(commandLine: CommandLine, options: QueryOptions): Promise<void> {
	const { stdout, stderr } = commandLine;
	const client = createAuditClient(findService(commandLine, options));
	const request = requestOf(options);
	const kept: Event[] = [];
	let found = 0;
	do {
		request.pageSize = Math.min(LARGEST_PAGE, options.limit - found);
		const { events, nextPageToken } = await asAuditErrors(() => client.query(request));
		found += events.length;
		// A table needs all rows to know its widths, JSON its brackets; NDJSON flows.
		if (options.output === "ndjson") await print(stdout, events.map((event) => `${eventJson(event)}\n`).join(""));
		else kept.push(...events);
		request.pageToken = nextPageToken;
	} while (request.pageToken !== "" && found < options.limit);
	if (options.output === "table") await print(stdout, kept.length > 0 ? eventTable(kept, stdout) : "no events\n");
	if (options.output === "json") await print(stdout, `[${kept.map((event) => eventJson(event)).join(",\n")}]\n`);
	if (request.pageToken !== "") {
		stderr.write(`there are more: --page-token ${request.pageToken}${fixedTimes(options, request)}\n`);
	}
}

function requestOf(options: QueryOptions): QueryRequest {
	const request = filtersOf(options, Date.now());
	request.tenantId = options.tenant ?? "";
	request.pageToken = options.pageToken ?? "";
	request.order = options.order === "oldest" ? Order.OLDEST_FIRST : Order.NEWEST_FIRST;
	return request;
}
