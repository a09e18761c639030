import type { Command } from "commander";
import { createDeadLetterClient, type DeadLetterClient } from "../../client/index.ts";
import {
	RedriveOutcome,
	RedriveOutcomeSchema,
	type RedriveResult,
	RedriveResultSchema,
} from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { restJson } from "../../rpc/rest-json.ts";
import { type CommandLine, EXIT, UsageError } from "../command-line.ts";
import { wordFor } from "../enum-words.ts";
import { addExamples } from "../examples.ts";
import { type Format, type Listing, ListOutput, outputOption } from "../output/listing.ts";
import { type AddressOptions, addAddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";
import { addFilterOptions, type FilterOptions, filterOf } from "./letter-filter.ts";

interface RedriveOptions extends AddressOptions, FilterOptions {
	all?: true;
	dryRun?: true;
	yes?: true;
	output: Format;
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
		.addOption(outputOption());
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
What would become of the letters is found out first, a page at a time, without doing anything. With --yes those that would
be stored are redriven then, exactly those; without it nothing is. The events get the identity they would have had, so
redriving twice stores them once. A letter that is refused stays open. docs/cli.md names the columns of CSV.

Exit codes: 0 done, or a dry run; 1 some were refused, or --yes was missing; 2 the command was called wrongly.`,
		)
		.action((ids: string[], options: RedriveOptions) => run(commandLine, ids, options));
	addExamples(
		command,
		["what would become of all that is open", "auditlog dead-letters redrive --all --dry-run"],
		["those that came before their tenant was made", "auditlog dead-letters redrive --reason TENANT_NOT_FOUND --yes"],
		["one that is open", "ID=$(auditlog dead-letters list -n 1 -o csv | tail -n 1 | cut -d, -f1)"],
		["whether it could be, and what is wrong if not", 'auditlog dead-letters redrive "$ID" --dry-run'],
	);
}

async function run(commandLine: CommandLine, ids: string[], options: RedriveOptions): Promise<void> {
	const { tenant, reason, since, until, all, dryRun, yes } = options;
	const filtered = [tenant, reason, since, until, all].some((option) => option !== undefined);
	if (ids.length > 0 === filtered) throw new UsageError("give the ids of letters, or options that say which, or --all");
	if (dryRun && yes) throw new UsageError("give --dry-run or --yes");
	const client = createDeadLetterClient(findService(commandLine, options));
	const output = new ListOutput(REDRIVEN, options.output, commandLine);
	const counts = { redrivable: 0, refused: 0 };
	for await (const foretold of filtered ? foretellMatching(client, options) : redriveEach(client, ids, true)) {
		const results = yes ? await redriveThose(client, foretold) : foretold;
		const refused = results.filter(isRefused).length;
		counts.refused += refused;
		counts.redrivable += results.length - refused;
		await output.write(results);
	}
	await output.end();
	if (dryRun) return;
	const { redrivable, refused } = counts;
	const total = redrivable + refused;
	if (yes) commandLine.stderr.write(`redriven ${redrivable}, refused ${refused}\n`);
	else if (total > 0) commandLine.stderr.write(`nothing was done: --yes redrives ${redrivable} of ${total}\n`);
	if (yes ? refused > 0 : total > 0) commandLine.exitCode = EXIT.failed;
}

/** What would become of the letters that match, page by page. */
async function* foretellMatching(client: DeadLetterClient, options: RedriveOptions): AsyncGenerator<RedriveResult[]> {
	const filter = filterOf(options);
	let pageToken = "";
	do {
		const page = await asAuditErrors(() => client.redriveDeadLetters({ filter, dryRun: true, pageToken }));
		yield page.results;
		pageToken = page.nextPageToken;
	} while (pageToken !== "");
}

async function* redriveEach(client: DeadLetterClient, ids: string[], dryRun: boolean): AsyncGenerator<RedriveResult[]> {
	for (let i = 0; i < ids.length; i += LETTERS_AT_ONCE) {
		const some = ids.slice(i, i + LETTERS_AT_ONCE);
		yield (await asAuditErrors(() => client.redriveDeadLetters({ ids: some, dryRun }))).results;
	}
}

/** Redrives those that can be; of the others gives back what was foretold. */
async function redriveThose(client: DeadLetterClient, foretold: readonly RedriveResult[]): Promise<RedriveResult[]> {
	const ids = foretold.filter((result) => !isRefused(result)).map(({ id }) => id);
	const done = new Map<string, RedriveResult>();
	for await (const results of redriveEach(client, ids, false))
		for (const result of results) done.set(result.id, result);
	return foretold.map((result) => done.get(result.id) ?? result);
}

function isRefused({ outcome }: RedriveResult): boolean {
	return outcome === RedriveOutcome.REFUSED;
}

/** How what became of each letter is printed. docs/cli.md names the CSV columns. */
export const REDRIVEN: Listing<RedriveResult> = {
	nothing: "no open dead letters",
	table: {
		columns: [
			{ title: "ID", text: ({ id }) => id },
			{ title: "RESULT", text: outcomeText, style: (result) => (isRefused(result) ? "red" : undefined) },
			{ title: "TENANT", text: ({ events }) => events[0]?.tenantId ?? "-", least: 8 },
			{ title: "EVENT", text: eventText, least: 12 },
			{ title: "WHY", text: whyText, least: 16 },
		],
		leftOut: [["TENANT"], ["TENANT", "EVENT"]],
	},
	csv: [
		{ name: "id", text: ({ id }) => id },
		{ name: "outcome", text: ({ outcome }) => wordFor(RedriveOutcomeSchema, outcome) },
		{ name: "tenant_id", text: ({ events }) => events[0]?.tenantId ?? "" },
		{ name: "event_ids", text: ({ events }) => events.map(({ eventId }) => eventId).join(" ") },
		{ name: "reason", text: ({ reason }) => reason },
		{ name: "message", text: messageText },
	],
	json: (result) => restJson(RedriveResultSchema, result),
};

function outcomeText({ outcome }: RedriveResult): string {
	return wordFor(RedriveOutcomeSchema, outcome).replaceAll("_", " ");
}

function eventText({ events: [first, ...others] }: RedriveResult): string {
	return first ? `${first.eventId}${others.length > 0 ? ` and ${others.length} more` : ""}` : "-";
}

function whyText(result: RedriveResult): string {
	return result.reason === "" ? "" : `${result.reason}: ${messageText(result)}`;
}

/** The message of a single violation is that violation. */
function messageText({ message, violations }: RedriveResult): string {
	return violations.length > 1 ? violations.map(({ field, message: what }) => `${field}: ${what}`).join("; ") : message;
}
