import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import { createDeadLetterClient } from "../../client/index.ts";
import {
	type DeadLetter,
	DeadLetterSchema,
	DeadLetterState,
	DeadLetterStateSchema,
} from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { type CommandLine, print, UsageError } from "../command-line.ts";
import { parseWord, wordFor, wordsOf } from "../enum-words.ts";
import { type AddressOptions, addAddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";
import { addFilterOptions, type FilterOptions, filterOf } from "./letter-filter.ts";
import { listText, textTable } from "./letter-text.ts";

interface ListOptions extends AddressOptions, FilterOptions {
	state: string;
	limit: number;
	pageToken?: string;
	output: "table" | "json" | "ndjson";
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
		.addOption(
			new Option("-o, --output <format>", "how to print").choices(["table", "json", "ndjson"]).default("table"),
		);
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
Examples:
  auditlog dead-letters list
  auditlog dead-letters list --tenant acme --reason INVALID_EVENT ID_REUSED --since 24h
  auditlog dead-letters list --state any --output ndjson --limit 100000`,
		)
		.action((options: ListOptions) => run(commandLine, options));
}

function parseLimit(text: string): number {
	if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageError("--limit must be a number from 1");
	return Number(text);
}

async function run(commandLine: CommandLine, options: ListOptions): Promise<void> {
	const client = createDeadLetterClient(findService(commandLine, options));
	const { stdout, stderr } = commandLine;
	const state = options.state === "any" ? undefined : parseWord(DeadLetterStateSchema, "--state", options.state);
	const filter = filterOf(options, state ?? DeadLetterState.UNSPECIFIED);
	const letters: DeadLetter[] = [];
	let pageToken = options.pageToken ?? "";
	do {
		const pageSize = Math.min(LARGEST_PAGE, options.limit - letters.length);
		const page = await asAuditErrors(() => client.listDeadLetters({ filter, pageSize, pageToken }));
		letters.push(...page.deadLetters);
		pageToken = page.nextPageToken;
	} while (pageToken !== "" && letters.length < options.limit);
	const table = () =>
		letters.length === 0 ? "no dead letters\n" : textTable(TITLES, letters.map(rowOf), commandLine.stdout);
	await print(stdout, listText(options.output, DeadLetterSchema, letters, table));
	if (pageToken !== "") stderr.write(`there are more: --page-token ${pageToken}\n`);
}

const TITLES = ["ID", "STATE", "TENANT", "RECEIVED", "REASON", "MESSAGE"];

function rowOf({ id, state, tenantId, receivedAt, reason, message }: DeadLetter): string[] {
	const received = receivedAt ? `${new Date(timestampMs(receivedAt)).toISOString().slice(0, 19)}Z` : "";
	return [id, wordFor(DeadLetterStateSchema, state), tenantId || "-", received, reason, message];
}
