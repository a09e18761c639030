import type { Command } from "commander";
import { createDeadLetterClient } from "../../client/index.ts";
import {
	DeadLetterState,
	DeadLetterStateSchema,
	type DiscardResult,
	DiscardResultSchema,
} from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { restJson } from "../../rpc/rest-json.ts";
import { type CommandLine, EXIT } from "../command-line.ts";
import { wordFor } from "../enum-words.ts";
import { addExamples } from "../examples.ts";
import { type Format, type Listing, ListOutput, outputOption } from "../output/listing.ts";
import { type AddressOptions, addAddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";

interface DiscardOptions extends AddressOptions {
	reason: string;
	output: Format;
}

/** What the service discards in one call. */
const LETTERS_AT_ONCE = 100;

/** `auditlog dead-letters discard` */
export function discard(command: Command, commandLine: CommandLine): void {
	command
		.description("say of dead letters that they shall not become events; they are kept")
		.argument("<id...>", "the letters")
		.requiredOption("--reason <text>", "why, for those who ask later")
		.addOption(outputOption());
	addAddressOptions(command)
		.addHelpText("after", "\nExit codes: 0 all are discarded, now or before; 1 some had become events, or it failed.")
		.action((ids: string[], options: DiscardOptions) => run(commandLine, ids, options));
	addExamples(
		command,
		["the newest one that is open", "ID=$(auditlog dead-letters list -n 1 -o csv | tail -n 1 | cut -d, -f1)"],
		["it stays in the list of all", 'auditlog dead-letters discard "$ID" --reason "a test of ours, see OPS-112"'],
	);
}

async function run(commandLine: CommandLine, ids: string[], options: DiscardOptions): Promise<void> {
	const client = createDeadLetterClient(findService(commandLine, options));
	const { reason, output } = options;
	const printed = new ListOutput(DISCARDED, output, commandLine);
	for (let i = 0; i < ids.length; i += LETTERS_AT_ONCE) {
		const some = ids.slice(i, i + LETTERS_AT_ONCE);
		const { results } = await asAuditErrors(() => client.discardDeadLetters({ ids: some, reason }));
		await printed.write(results);
		if (results.some(({ state }) => state !== DeadLetterState.DISCARDED)) commandLine.exitCode = EXIT.failed;
	}
	await printed.end();
}

/** How what became of each letter is printed. docs/cli.md names the CSV columns. */
export const DISCARDED: Listing<DiscardResult> = {
	nothing: "no dead letters",
	table: {
		columns: [
			{ title: "ID", text: ({ id }) => id },
			{ title: "STATE", text: ({ state }) => wordFor(DeadLetterStateSchema, state) },
			{ title: "WHEN", text: ({ changed }) => (changed ? "now" : "before") },
		],
	},
	csv: [
		{ name: "id", text: ({ id }) => id },
		{ name: "state", text: ({ state }) => wordFor(DeadLetterStateSchema, state) },
		{ name: "changed", text: ({ changed }) => String(changed) },
	],
	json: (result) => restJson(DiscardResultSchema, result),
};
