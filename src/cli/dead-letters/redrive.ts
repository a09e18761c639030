import { type Command, Option } from "commander";
import { createDeadLetterClient, type DeadLetterClient } from "../../client/index.ts";
import { RedriveOutcome, type RedriveResult, RedriveResultSchema } from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { type CommandLine, EXIT, print, UsageError } from "../command-line.ts";
import { type AddressOptions, addAddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";
import { addFilterOptions, type FilterOptions, filterOf } from "./letter-filter.ts";
import { listText, textTable } from "./letter-text.ts";

interface RedriveOptions extends AddressOptions, FilterOptions {
	all?: true;
	dryRun?: true;
	yes?: true;
	output: "table" | "json" | "ndjson";
}

/** What the service redrives in one call. */
const LETTERS_AT_ONCE = 100;

/** `auditlog dead-letters redrive` */
export function redrive(command: Command, commandLine: CommandLine): void {
	command
		.description("try again to make events of dead letters")
		.argument("[id...]", "the letters; else the options say which");
	addFilterOptions(command)
		.option("--all", "every open letter the key may see")
		.option("--dry-run", "show what would be done, and do nothing")
		.option("--yes", "do it")
		.addOption(
			new Option("-o, --output <format>", "how to print").choices(["table", "json", "ndjson"]).default("table"),
		);
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
What would become of each letter is found out first, without doing anything. With --yes those that would be stored are
redriven then, exactly those; without it nothing is. The events get the identity they would have had, so redriving twice
stores them once. A letter that is refused stays open.

Examples:
  auditlog dead-letters redrive mb1x3k7q-26-0 --dry-run
  auditlog dead-letters redrive mb1x3k7q-26-0 mb1x3k7q-29-1 --yes
  auditlog dead-letters redrive --tenant acme --reason TENANT_NOT_FOUND --yes
  auditlog dead-letters redrive --all --dry-run

Exit codes: 0 done, or a dry run; 1 some were refused, or --yes was missing; 2 the command was called wrongly.`,
		)
		.action((ids: string[], options: RedriveOptions) => run(commandLine, ids, options));
}

async function run(commandLine: CommandLine, ids: string[], options: RedriveOptions): Promise<void> {
	const { tenant, reason, since, until, all, dryRun, yes } = options;
	const filtered = [tenant, reason, since, until, all].some((option) => option !== undefined);
	if (ids.length > 0 === filtered) throw new UsageError("give the ids of letters, or options that say which, or --all");
	if (dryRun && yes) throw new UsageError("give --dry-run or --yes");
	const client = createDeadLetterClient(findService(commandLine, options));
	const foretold = filtered ? await foretellMatching(client, options) : await redriveEach(client, ids, true);
	const redrivable = foretold.filter(({ outcome }) => outcome !== RedriveOutcome.REFUSED).map(({ id }) => id);
	if (!yes) {
		await printResults(commandLine, options, foretold);
		if (dryRun || foretold.length === 0) return;
		commandLine.stderr.write(`nothing was done: --yes redrives ${redrivable.length} of ${foretold.length}\n`);
		commandLine.exitCode = EXIT.failed;
		return;
	}
	const done = new Map((await redriveEach(client, redrivable, false)).map((result) => [result.id, result]));
	const results = foretold.map((result) => done.get(result.id) ?? result);
	await printResults(commandLine, options, results);
	const refused = results.filter(({ outcome }) => outcome === RedriveOutcome.REFUSED).length;
	commandLine.stderr.write(`redriven ${results.length - refused}, refused ${refused}\n`);
	if (refused > 0) commandLine.exitCode = EXIT.failed;
}

async function foretellMatching(client: DeadLetterClient, options: RedriveOptions): Promise<RedriveResult[]> {
	const filter = filterOf(options);
	const results: RedriveResult[] = [];
	let pageToken = "";
	do {
		const page = await asAuditErrors(() => client.redriveDeadLetters({ filter, dryRun: true, pageToken }));
		results.push(...page.results);
		pageToken = page.nextPageToken;
	} while (pageToken !== "");
	return results;
}

async function redriveEach(client: DeadLetterClient, ids: string[], dryRun: boolean): Promise<RedriveResult[]> {
	const results: RedriveResult[] = [];
	for (let i = 0; i < ids.length; i += LETTERS_AT_ONCE) {
		const some = ids.slice(i, i + LETTERS_AT_ONCE);
		results.push(...(await asAuditErrors(() => client.redriveDeadLetters({ ids: some, dryRun }))).results);
	}
	return results;
}

async function printResults(
	{ stdout }: CommandLine,
	{ output }: RedriveOptions,
	results: readonly RedriveResult[],
): Promise<void> {
	const table = () => (results.length === 0 ? "no open dead letters\n" : textTable(TITLES, results.map(rowOf), stdout));
	await print(stdout, listText(output, RedriveResultSchema, results, table));
}

const TITLES = ["ID", "RESULT", "TENANT", "EVENT", "WHY"];
const WORDS: Readonly<Record<number, string>> = {
	[RedriveOutcome.WOULD_BE_STORED]: "would be stored",
	[RedriveOutcome.STORED]: "stored",
	[RedriveOutcome.DUPLICATE]: "duplicate",
	[RedriveOutcome.REFUSED]: "refused",
};

function rowOf({ id, outcome, events, reason, message, violations }: RedriveResult): string[] {
	const [first] = events;
	const event = first ? `${first.eventId}${events.length > 1 ? ` and ${events.length - 1} more` : ""}` : "-";
	// The message of a single violation is that violation.
	const all =
		violations.length > 1 ? violations.map(({ field, message: what }) => `${field}: ${what}`).join("; ") : message;
	return [
		id,
		WORDS[outcome] ?? String(outcome),
		first?.tenantId ?? "-",
		event,
		reason === "" ? "" : `${reason}: ${all}`,
	];
}
