import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import { createDeadLetterClient } from "../../client/index.ts";
import { microsOf, rfc3339 } from "../../event/time.ts";
import {
	type DeadLetterAction,
	DeadLetterStateSchema,
	type GetDeadLetterResponse,
	GetDeadLetterResponseSchema,
} from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { restJson } from "../../rpc/rest-json.ts";
import { CommandError, type CommandLine, print } from "../command-line.ts";
import { wordFor } from "../enum-words.ts";
import { addExamples } from "../examples.ts";
import { jsonText, printable } from "../output/printable.ts";
import { type AddressOptions, addAddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";
import { bodyText } from "./letter-text.ts";

interface ShowOptions extends AddressOptions {
	output: "text" | "json";
}

/** `auditlog dead-letters show` */
export function show(command: Command, commandLine: CommandLine): void {
	command
		.description("show one dead letter: what it is, why, its headers and body, and what was done with it")
		.argument("<id>", "the letter's id")
		.addOption(new Option("-o, --output <format>", "how to print").choices(["text", "json"]).default("text"));
	addAddressOptions(command)
		.addHelpText(
			"after",
			"\nA body that is JSON is shown as text, any other as hex; control characters are spelt out (\\u001b).",
		)
		.action(async (id: string, options: ShowOptions) => {
			const client = createDeadLetterClient(findService(commandLine, options));
			const shown = await asAuditErrors(() => client.getDeadLetter({ id }));
			await print(commandLine.stdout, options.output === "json" ? jsonOf(shown) : text(shown));
		});
	addExamples(
		command,
		["the newest one that is open", "ID=$(auditlog dead-letters list -n 1 -o csv | tail -n 1 | cut -d, -f1)"],
		["what it is, and why it could not become an event", 'auditlog dead-letters show "$ID"'],
		[
			"its body as it was published, into a file",
			"auditlog dead-letters show $ID -o json | node -p 'JSON.parse(fs.readFileSync(0)).body' | base64 -d > body.bin",
		],
	);
}

function jsonOf(shown: GetDeadLetterResponse): string {
	return `${jsonText(restJson(GetDeadLetterResponseSchema, shown), 2)}\n`;
}

function text({ deadLetter: letter, body, headers, violations, history }: GetDeadLetterResponse): string {
	if (!letter) throw new CommandError("the service answered without a letter");
	const shownBody = bodyText(body);
	const facts: [string, string][] = [
		["id", letter.id],
		["state", wordFor(DeadLetterStateSchema, letter.state)],
		["tenant", letter.tenantId || "not known"],
		["reason", letter.reason],
		["message", letter.message],
		["subject", letter.subject],
		["published", timeText(letter.publishedAt)],
		["received", timeText(letter.receivedAt)],
		["place", `event ${letter.position} of message ${letter.streamSeq}, stream of ${timeText(letter.streamCreated)}`],
	];
	return [
		...facts.map(([name, value]) => `${`${name}:`.padEnd(11)}${printable(value)}`),
		...section(
			"violations",
			violations.map(({ field, message }) => `${field || "message"}: ${message}`),
		),
		...section(
			"headers",
			headers.flatMap(({ name, values }) => values.map((value) => `${name}: ${value}`)),
		),
		...section("history", history.map(actionText)),
		`body (${letter.bodySize} bytes, as ${shownBody.kind}):`,
		shownBody.text,
	].join("\n");
}

function section(title: string, lines: readonly string[]): string[] {
	return lines.length > 0 ? [`${title}:`, ...lines.map((line) => `  ${printable(line)}`)] : [];
}

function actionText({ state, actedAt, keyId, reason, events }: DeadLetterAction): string {
	const became = events.map(({ tenantId, eventId, duplicate }) => {
		return `event ${eventId} of ${tenantId}${duplicate ? " (stored before)" : ""}`;
	});
	const what = reason === "" ? became.join(", ") : reason;
	return `${timeText(actedAt)} ${wordFor(DeadLetterStateSchema, state)} by key ${keyId}: ${what}`;
}

function timeText(time: Timestamp | undefined): string {
	return time ? rfc3339(microsOf(time)) : "";
}
