import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import { type AuditPublisherOptions, openAuditPublisher } from "../client/nats.ts";
import { loadNatsAccess } from "../config.ts";
import { isTenantId } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import { CommandError, type CommandLine, EXIT, print, UsageError } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { Arrivals } from "./import/arrivals.ts";
import { mapRecords } from "./import/map-records.ts";
import { publishEvents } from "./import/publish-events.ts";
import { RecordFile } from "./import/record-file.ts";
import { ImportReport } from "./import/report.ts";
import { sendEvents } from "./import/send-events.ts";
import { type AddressOptions, addAddressOptions, findService, readDevFile } from "./service-address.ts";

interface ImportOptions extends AddressOptions {
	tenant: string;
	via: "rpc" | "nats";
	natsUrl?: string;
	natsInboxPrefix?: string;
	output: "text" | "json";
}

/** `auditlog import`: streams a file of another system's records into a tenant's log. */
export function importEvents(command: Command, commandLine: CommandLine): void {
	command
		.argument("<file>", 'NDJSON or {"Records": […]}, gzipped or not; - for standard input')
		.addOption(new Option("--format <format>", "what the records are").choices(["cloudtrail"]).makeOptionMandatory())
		.requiredOption("--tenant <id>", "the tenant to import into")
		.addOption(new Option("--via <door>", "the door to take").choices(["rpc", "nats"]).default("rpc"))
		.option("--nats-url <url>", "where NATS is (NATS_URL), for --via nats")
		.option("--nats-inbox-prefix <prefix>", "where the NATS user may listen, if not everywhere below _INBOX")
		.addOption(
			new Option("-o, --output <format>", "how to print the outcome").choices(["text", "json"]).default("text"),
		);
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
Events keep the time and the id of their records: importing a file again, by either door, adds nothing.
What cannot be imported is named on standard error by line, and the rest goes on.
docs/import-cloudtrail.md says where every value of a record goes.

Exit codes: 0 everything is in; 1 something is not; 2 the command was called wrongly.`,
		)
		.action(async (path: string, options: ImportOptions) => {
			if (!isTenantId(options.tenant)) throw new UsageError("--tenant must be 1 to 128 of A-Z a-z 0-9 . _ : -");
			const file = await RecordFile.open(path, commandLine.stdin);
			const report = new ImportReport(commandLine.stderr, file);
			const importAll = options.via === "nats" ? importByNats : importByRpc;
			try {
				await importAll(commandLine, options, options.tenant, file, report);
			} catch (error) {
				commandLine.stderr.write(`stopped: ${report.summary("text")}`);
				throw error;
			}
			await print(commandLine.stdout, report.summary(options.output));
			if (!report.isComplete) commandLine.exitCode = EXIT.failed;
		});
	addExamples(
		command,
		["2,900 real records", "auditlog import --format cloudtrail --tenant cloud test/fixtures/cloudtrail.ndjson.gz"],
		["by NATS", "auditlog import --format cloudtrail --tenant cloud --via nats test/fixtures/cloudtrail.ndjson.gz"],
		[
			"from another program",
			"gunzip -c test/fixtures/cloudtrail.ndjson.gz | auditlog import --format cloudtrail --tenant cloud -",
		],
	);
}

async function importByRpc(
	commandLine: CommandLine,
	options: ImportOptions,
	tenantId: TenantId,
	file: RecordFile,
	report: ImportReport,
): Promise<void> {
	const client = createAuditClient(findService(commandLine, options));
	try {
		await sendEvents(client, mapRecords(file.records(), tenantId, report), ({ place }, sent) => {
			if ("written" in sent) report.stored(sent.written.duplicate);
			else report.rejected(place, sent.refused);
		});
	} finally {
		report.finish();
	}
}

async function importByNats(
	commandLine: CommandLine,
	options: ImportOptions,
	tenantId: TenantId,
	file: RecordFile,
	report: ImportReport,
): Promise<void> {
	const publisher = await openAuditPublisher(findNats(commandLine, options));
	const arrivals = new Arrivals();
	try {
		await publishEvents(publisher, mapRecords(file.records(), tenantId, report), (events, repeated) => {
			report.acknowledged(events.length, repeated);
			arrivals.expect(events.at(-1)?.event);
		});
		const service = serviceIfAny(commandLine, options);
		if (service) report.arrived(await arrivals.wait(createAuditClient(service), tenantId));
	} finally {
		report.finish();
		await publisher.close();
	}
}

/** By the settings the service has, too. */
function findNats({ env }: CommandLine, options: ImportOptions): AuditPublisherOptions {
	const { natsUrl, natsInboxPrefix } = options;
	const isGiven = natsUrl ?? env.NATS_URL ?? env["NATS_URL_FILE"];
	const url = isGiven ? undefined : readDevFile(env)?.nats_url;
	if (!isGiven && !url) {
		throw new CommandError("no NATS found: start the service with `make run`, or give --nats-url or NATS_URL");
	}
	const given = natsUrl === undefined ? {} : { NATS_URL: natsUrl, NATS_URL_FILE: undefined };
	try {
		const access = loadNatsAccess({ ...env, ...(url && { NATS_URL: url }), ...given });
		if (access) return { ...access, inboxPrefix: natsInboxPrefix };
	} catch (error) {
		throw new UsageError(`NATS cannot be reached like this: ${(error as Error).message}`, { cause: error });
	}
	throw new CommandError("no NATS found: NATS_URL is empty");
}

/** Publishing needs no key of the service; looking whether the events have arrived does. */
function serviceIfAny(commandLine: CommandLine, options: ImportOptions) {
	try {
		return findService(commandLine, options);
	} catch {
		return undefined;
	}
}
