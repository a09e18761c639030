import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import { Order, type QueryRequest, QueryRequestSchema } from "../gen/audit/v1/audit_service_pb.ts";
import { CategorySchema, OutcomeSchema, SeveritySchema } from "../gen/audit/v1/event_pb.ts";
import { type CommandLine, UsageError } from "./command-line.ts";
import { parseWord, wordsOf } from "./enum-words.ts";
import { EVENTS } from "./event-listing.ts";
import { addExamples } from "./examples.ts";
import { type Format, ListOutput, outputOption } from "./output/listing.ts";
import { Progress } from "./progress.ts";
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
	output: Format;
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
		.addOption(outputOption());
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
Options are joined by AND, the values of one option by OR. If there are more events than --limit, the token to go on
with is printed on standard error. docs/cli.md names the columns of CSV.`,
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
			"all about one invoice, into a file; memory does not grow with it",
			"auditlog query --tenant globex --resource invoice:4711 --limit 100000 -o ndjson > invoice.ndjson",
		],
		["for a spreadsheet, oldest first", "auditlog query --tenant globex --order oldest -o csv > events.csv"],
	);
}

function parseLimit(text: string): number {
	if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageError("--limit must be a number from 1");
	return Number(text);
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
