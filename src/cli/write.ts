import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import { decodeEventJson } from "../event/decode.ts";
import { microsOf, rfc3339 } from "../event/time.ts";
import { type WriteEventResponse, WriteEventResponseSchema } from "../gen/audit/v1/audit_service_pb.ts";
import {
	ActorTypeSchema,
	CategorySchema,
	type Event,
	OutcomeSchema,
	SeveritySchema,
} from "../gen/audit/v1/event_pb.ts";
import { restJson } from "../rpc/rest-json.ts";
import { type CommandLine, EXIT, print, UsageError } from "./command-line.ts";
import { wordsOf } from "./enum-words.ts";
import { type EventFlags, eventOfFlags } from "./event-flags.ts";
import { addExamples } from "./examples.ts";
import { RecordFile } from "./import/record-file.ts";
import { type Refusal, type SourcedEvent, sendEvents } from "./import/send-events.ts";
import { jsonText, printable } from "./output/printable.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";
import { asAuditErrors } from "./service-call.ts";
import { violationText } from "./violation-text.ts";

interface WriteOptions extends AddressOptions, EventFlags {
	json?: string;
	output: "text" | "json";
}

/** `auditlog write`: writes one event from options or JSON, or many from standard input. */
export function write(command: Command, commandLine: CommandLine): void {
	command
		.option("-t, --tenant <id>", "the tenant; may be left out with a key for one tenant")
		.option("-a, --action <name>", "what was done, such as user.login")
		.option("--actor <id>", "who did it")
		.option("--actor-type <word>", wordsOf(ActorTypeSchema).join(", "))
		.option("--actor-name <name>", "the actor's name, for people")
		.option("--actor-email <address>", "the actor's e-mail address")
		.option("-r, --resource <type:id>", "the thing it was done to")
		.option("--related <type:id...>", "further things; role=type:id says which part they play")
		.option("--category <word>", wordsOf(CategorySchema).join(", "))
		.option("--severity <word>", wordsOf(SeveritySchema).join(", "))
		.option("--outcome <word>", wordsOf(OutcomeSchema).join(", "))
		.option("--outcome-reason <text>", "why it ended so")
		.option("--reason <text>", "why it was done: a ticket, a justification")
		.option("--description <text>", "the message a person reads")
		.option("--source <name>", "the channel: api, dashboard, cli, …")
		.option("--ip <address>", "the address of whoever acted")
		.option("--request-id <id>", "the request it was part of")
		.option("--occurred-at <time>", "when: RFC 3339, a date, or how long ago (15m); default now")
		.option("--id <uuid>", "the event's id, to make a retry safe; with --occurred-at unless it is a UUIDv7")
		.option("--idempotency-key <key>", "instead of --id, with --occurred-at: the same key is the same event")
		.option("--metadata <json>", "further context, a JSON object")
		.option("--changes <json>", 'what changed: {"old_value": …, "new_value": …, "changed_fields": […]}')
		.option("--json <event>", "the whole event as JSON; - or nothing at all: one event a line from standard input")
		.addOption(new Option("-o, --output <format>", "how to print").choices(["text", "json"]).default("text"));
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
Of many events, those that are refused are named by line, and the rest goes on.

Exit codes: 0 all stored, now or before; 1 refused or failed; 2 the command was called wrongly.`,
		)
		.action((options: WriteOptions) => {
			const member = givenMember(command);
			if (options.json !== undefined && member)
				throw new UsageError(`--json is the whole event: put ${member} into it`);
			if (options.json !== undefined && options.json !== "-")
				return writeOne(commandLine, options, withTenant(parse(options.json), options));
			if (member) return writeOne(commandLine, options, eventOfFlags(options));
			if (options.json !== "-" && commandLine.stdin.isTTY) {
				throw new UsageError("give --action and --actor, or --json, or events on standard input");
			}
			return writeLines(commandLine, options);
		});
	addExamples(
		command,
		[
			"who did what to which thing",
			"auditlog write --tenant globex --action user.login --actor user-123 --actor-type user --resource user:user-123",
		],
		[
			"with an id of its own, so that it is safe to repeat",
			"auditlog write --tenant globex --id 0198c0de-0000-7000-8000-000000000001 --action invoice.approve --actor user-9",
		],
		[
			"an event as JSON",
			`auditlog write --json '{"tenant_id":"globex","action":"user.login","actor":{"id":"user-123"},"metadata":{"a":1}}'`,
		],
		[
			"many events, one a line; those that are stored already are recognised",
			"auditlog query --tenant globex --action 'user.*' -o ndjson | auditlog write",
		],
	);
}

const BESIDE_AN_EVENT = new Set(["--tenant", "--json", "--output", "--url", "--key"]);

/** The first option given that is part of an event: it must not be passed over where the event comes from elsewhere. */
function givenMember(command: Command): string | undefined {
	return command.options.find(
		(option) => !BESIDE_AN_EVENT.has(option.long ?? "") && command.getOptionValue(option.attributeName()) !== undefined,
	)?.long;
}

/** The tenant of `--tenant`, for an event that names none itself. */
function withTenant(event: Event, { tenant }: WriteOptions): Event {
	return event.tenantId === "" && tenant !== undefined ? { ...event, tenantId: tenant } : event;
}

function parse(json: string): Event {
	const decoded = decodeEventJson(json);
	if (decoded.ok) return decoded.input;
	throw new UsageError(`--json is not an event:\n${violationText(decoded.violations)}`);
}

async function writeOne(commandLine: CommandLine, options: WriteOptions, event: Event): Promise<void> {
	const client = createAuditClient(findService(commandLine, options));
	const written = await asAuditErrors(() => client.writeEvent({ event }));
	await print(commandLine.stdout, writtenText(written, options.output));
}

async function writeLines(commandLine: CommandLine, options: WriteOptions): Promise<void> {
	const client = createAuditClient(findService(commandLine, options));
	// Events that are on their way must not be given up because nobody reads what became of them.
	commandLine.onReaderGone = () => {};
	const file = await RecordFile.open("-", commandLine.stdin);
	const counts = { read: 0, stored: 0, duplicates: 0, rejected: 0 };
	const reject = (place: string, { message, violations }: Refusal) => {
		counts.rejected += 1;
		commandLine.stderr.write(
			`${place}: ${violations.length > 0 ? violationText(violations, "; ") : printable(message)}\n`,
		);
	};
	await sendEvents(client, readEvents(file, options.tenant, counts, reject), ({ place }, sent) => {
		if ("refused" in sent) return reject(place, sent.refused);
		counts[sent.written.duplicate ? "duplicates" : "stored"] += 1;
		commandLine.stdout.write(writtenText(sent.written, options.output));
	});
	if (counts.read === 0) throw new UsageError("there was no event on standard input; --help shows other ways");
	const words = Object.entries(counts).map(([name, count]) => `${name} ${count.toLocaleString("en")}`);
	commandLine.stderr.write(`${words.join(", ")}\n`);
	if (counts.rejected > 0) commandLine.exitCode = EXIT.failed;
}

async function* readEvents(
	file: RecordFile,
	tenantId: string | undefined,
	counts: { read: number },
	reject: (place: string, refusal: Refusal) => void,
): AsyncGenerator<SourcedEvent> {
	for await (const record of file.records()) {
		counts.read += 1;
		const { place } = record;
		if ("problem" in record) {
			reject(place, { message: record.problem, violations: [] });
			continue;
		}
		const decoded = decodeEventJson(record.text);
		if (!decoded.ok) {
			reject(place, { message: "is not an event", violations: decoded.violations });
			continue;
		}
		const event = decoded.input;
		if (tenantId !== undefined) event.tenantId ||= tenantId;
		yield { place, event };
	}
}

function writtenText(written: WriteEventResponse, output: WriteOptions["output"]): string {
	if (output === "json") return `${jsonText(restJson(WriteEventResponseSchema, written))}\n`;
	const time = written.occurredAt ? rfc3339(microsOf(written.occurredAt)) : "";
	return `${written.duplicate ? "duplicate" : "stored"} ${printable(written.eventId)} ${time}\n`;
}
