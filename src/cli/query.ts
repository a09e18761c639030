import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import { Order, type QueryRequest, QueryRequestSchema } from "../gen/audit/v1/audit_service_pb.ts";
import { CategorySchema, type Event, OutcomeSchema, SeveritySchema } from "../gen/audit/v1/event_pb.ts";
import { type CommandLine, print, UsageError } from "./command-line.ts";
import { parseWord, wordsOf } from "./enum-words.ts";
import { eventJson } from "./event-json.ts";
import { eventTable } from "./event-table.ts";
import { parseResource } from "./resource-option.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";
import { asAuditErrors } from "./service-call.ts";
import { parseTime } from "./time-option.ts";

interface QueryOptions extends AddressOptions {
	tenant?: string;
	since?: string;
	until?: string;
	actor?: string[];
	action?: string[];
	category?: string[];
	severity?: string[];
	outcome?: string[];
	source?: string[];
	resource?: string;
	resourceId?: string;
	resourceType?: string;
	limit: number;
	pageToken?: string;
	order: "newest" | "oldest";
	output: "table" | "json" | "ndjson";
}

/** The service answers with no more events at once. */
const LARGEST_PAGE = 1000;

/** `auditlog query`: searches a tenant's events. */
export function query(command: Command, commandLine: CommandLine): void {
	command
		.option("-t, --tenant <id>", "the tenant to search; may be left out with a key for one tenant")
		.option("--since <time>", "at or after this time: RFC 3339, a date, or how long ago (90s, 15m, 24h, 7d, 2w)")
		.option("--until <time>", "before this time")
		.option("--actor <id...>", "by any of these actors")
		.option("--action <name...>", "any of these actions; 'user.*' for all that begin so")
		.option("--category <word...>", wordsOf(CategorySchema).join(", "))
		.option("--severity <word...>", wordsOf(SeveritySchema).join(", "))
		.option("--outcome <word...>", wordsOf(OutcomeSchema).join(", "))
		.option("--source <name...>", "through any of these channels")
		.option("--resource <type:id>", "concerning this resource, as the primary or a related one")
		.option("--resource-id <id>", "concerning a resource with this id, of whatever type")
		.option("--resource-type <type>", "concerning a resource of this type")
		.option("-n, --limit <count>", "how many events at most", parseLimit, 50)
		.option("--page-token <token>", "go on where an earlier query with the same filters ended")
		.addOption(new Option("--order <order>", "which come first").choices(["newest", "oldest"]).default("newest"))
		.addOption(
			new Option("-o, --output <format>", "how to print").choices(["table", "json", "ndjson"]).default("table"),
		);
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
Options are joined by AND, the values of one option by OR. If there are more events than --limit, the token to go on
with is printed on standard error.

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
	if (request.pageToken !== "") stderr.write(`there are more: --page-token ${request.pageToken}\n`);
}

function requestOf(options: QueryOptions): QueryRequest {
	const now = Date.now();
	const resource = options.resource === undefined ? undefined : parseResource("--resource", options.resource);
	const filters: MessageInitShape<typeof QueryRequestSchema> = {
		tenantId: options.tenant ?? "",
		actorIds: options.actor ?? [],
		actions: options.action ?? [],
		categories: (options.category ?? []).map((word) => parseWord(CategorySchema, "--category", word)),
		severities: (options.severity ?? []).map((word) => parseWord(SeveritySchema, "--severity", word)),
		outcomes: (options.outcome ?? []).map((word) => parseWord(OutcomeSchema, "--outcome", word)),
		sources: options.source ?? [],
		resourceType: options.resourceType ?? resource?.type ?? "",
		resourceId: options.resourceId ?? resource?.id ?? "",
		pageToken: options.pageToken ?? "",
		order: options.order === "oldest" ? Order.OLDEST_FIRST : Order.NEWEST_FIRST,
	};
	if (options.since) filters.occurredAfter = parseTime("--since", options.since, now);
	if (options.until) filters.occurredBefore = parseTime("--until", options.until, now);
	return create(QueryRequestSchema, filters);
}
