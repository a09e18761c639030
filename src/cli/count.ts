import { create, toJson } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import {
	AggregateFieldSchema,
	type AggregateRequest,
	AggregateRequestSchema,
	AggregateResponseSchema,
	BucketSizeSchema,
} from "../gen/audit/v1/audit_service_pb.ts";
import { restJson } from "../rpc/rest-json.ts";
import { type CommandLine, print, UsageError } from "./command-line.ts";
import { countText } from "./count-text.ts";
import { parseWord, wordsOf } from "./enum-words.ts";
import { addExamples } from "./examples.ts";
import { addFilterOptions, FILTERS_HELP, type FilterOptions, filtersOf } from "./filter-options.ts";
import { jsonText } from "./output/printable.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";
import { asAuditErrors } from "./service-call.ts";

interface CountOptions extends AddressOptions, FilterOptions {
	tenant?: string;
	by?: string[];
	top: number;
	bucket: string;
	timeZone: string;
	output: "table" | "json";
}

/** `auditlog count`: counts a tenant's events, by time and by the values of fields. */
export function count(command: Command, commandLine: CommandLine): void {
	command.option("-t, --tenant <id>", "the tenant to count in; may be left out with a key for one tenant");
	addFilterOptions(command)
		.option("--by <field...>", `by which fields to count: ${wordsOf(AggregateFieldSchema).join(", ")}`)
		.option("--top <count>", "how many values of each field, the most frequent ones", parseTop, 10)
		.option("--bucket <size>", `how long a bucket is: ${wordsOf(BucketSizeSchema).join(", ")}`, "auto")
		.option("--time-zone <name>", "whose days, weeks and months, such as Europe/Berlin", "UTC")
		.addOption(new Option("-o, --output <format>", "how to print").choices(["table", "json"]).default("table"));
	addAddressOptions(command)
		.addHelpText("after", FILTERS_HELP)
		.action((options: CountOptions) => run(commandLine, options));
	addExamples(
		command,
		["what happens most", "auditlog count --tenant globex"],
		[
			"how often something was refused, day by day",
			"auditlog count --tenant globex --outcome denied --since 30d --bucket day",
		],
		["who is most active", "auditlog count --tenant globex --since 30d --by actor_id --top 20 --bucket none"],
	);
}

async function run(commandLine: CommandLine, options: CountOptions): Promise<void> {
	const client = createAuditClient(findService(commandLine, options));
	const request = requestOf(options);
	const answer = await asAuditErrors(() => client.aggregate(request));
	const text =
		options.output === "json"
			? `${jsonText(restJson(AggregateResponseSchema, answer), 2)}\n`
			: countText(answer, commandLine);
	await print(commandLine.stdout, text);
	if (!answer.complete) {
		const since = answer.countedFrom ? toJson(TimestampSchema, answer.countedFrom) : "";
		commandLine.stderr.write(
			`counted were the events since ${since}: there was no time for more; narrow --since or --until\n`,
		);
	}
}

function requestOf(options: CountOptions): AggregateRequest {
	const query = filtersOf(options, Date.now());
	query.tenantId = options.tenant ?? "";
	return create(AggregateRequestSchema, {
		query,
		fields: (options.by ?? []).map((word) => parseWord(AggregateFieldSchema, "--by", word)),
		top: options.top,
		bucketSize: parseWord(BucketSizeSchema, "--bucket", options.bucket),
		timeZone: options.timeZone,
	});
}

function parseTop(text: string): number {
	if (!/^[1-9]\d{0,2}$/.test(text) || Number(text) > 100) throw new UsageError("--top must be a number from 1 to 100");
	return Number(text);
}
