import { type Command, Option } from "commander";
import { createDeadLetterClient } from "../../client/index.ts";
import {
	DeadLetterState,
	DeadLetterStateSchema,
	type DiscardResult,
	DiscardResultSchema,
} from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { type CommandLine, EXIT, print } from "../command-line.ts";
import { wordFor } from "../enum-words.ts";
import { type AddressOptions, addAddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";
import { listText, textTable } from "./letter-text.ts";

interface DiscardOptions extends AddressOptions {
	reason: string;
	output: "table" | "json" | "ndjson";
}

/** What the service discards in one call. */
const LETTERS_AT_ONCE = 100;

/** `auditlog dead-letters discard` */
export function discard(command: Command, commandLine: CommandLine): void {
	command
		.description("say of dead letters that they shall not become events; they are kept")
		.argument("<id...>", "the letters")
		.requiredOption("--reason <text>", "why, for those who ask later")
		.addOption(
			new Option("-o, --output <format>", "how to print").choices(["table", "json", "ndjson"]).default("table"),
		);
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
Example:
  auditlog dead-letters discard mb1x3k7q-26-0 --reason "a test of ours, see OPS-112"

Exit codes: 0 all are discarded, now or before; 1 some had become events, or it failed.`,
		)
		.action((ids: string[], options: DiscardOptions) => run(commandLine, ids, options));
}

async function run(commandLine: CommandLine, ids: string[], options: DiscardOptions): Promise<void> {
	const client = createDeadLetterClient(findService(commandLine, options));
	const { reason, output } = options;
	const results: DiscardResult[] = [];
	for (let i = 0; i < ids.length; i += LETTERS_AT_ONCE) {
		const some = ids.slice(i, i + LETTERS_AT_ONCE);
		results.push(...(await asAuditErrors(() => client.discardDeadLetters({ ids: some, reason }))).results);
	}
	const table = () => textTable(["ID", "STATE", "WHEN"], results.map(rowOf), commandLine.stdout);
	await print(commandLine.stdout, listText(output, DiscardResultSchema, results, table));
	if (results.some(({ state }) => state !== DeadLetterState.DISCARDED)) commandLine.exitCode = EXIT.failed;
}

function rowOf({ id, state, changed }: DiscardResult): string[] {
	return [id, wordFor(DeadLetterStateSchema, state), changed ? "now" : "before"];
}
