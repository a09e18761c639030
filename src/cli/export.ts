import { create } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import { createAuditClient } from "../client/index.ts";
import {
	ExportCompression,
	ExportFormat,
	type ExportManifest,
	type ExportRequest,
	ExportRequestSchema,
	Order,
} from "../gen/audit/v1/audit_service_pb.ts";
import { type CommandLine, UsageError } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { ExportProgress } from "./export/export-progress.ts";
import { PartFile } from "./export/part-file.ts";
import { receiveExport, type Target } from "./export/receive-export.ts";
import { StdoutTarget } from "./export/stdout-target.ts";
import { addFilterOptions, FILTERS_HELP, type FilterOptions, filtersOf } from "./filter-options.ts";
import { type AddressOptions, addAddressOptions, findService } from "./service-address.ts";

interface ExportOptions extends AddressOptions, FilterOptions {
	tenant?: string;
	format: keyof typeof FORMATS;
	compress?: keyof typeof COMPRESSIONS;
	bom?: true;
	columns?: string[];
	order: "newest" | "oldest";
	out?: string;
}

const FORMATS = {
	csv: ExportFormat.CSV,
	ndjson: ExportFormat.NDJSON,
	parquet: ExportFormat.PARQUET,
} as const;
const COMPRESSIONS = { gzip: ExportCompression.GZIP, zstd: ExportCompression.ZSTD } as const;

/** `auditlog export`: all events of a search, as a file. */
export function exportEvents(command: Command, commandLine: CommandLine): void {
	command
		.addOption(new Option("--format <format>", "what the file is").choices(Object.keys(FORMATS)).makeOptionMandatory())
		.addOption(new Option("--compress <how>", "compress the whole file").choices(Object.keys(COMPRESSIONS)))
		.option("--out <file>", "where to write it; standard output without it")
		.option("--columns <name...>", "these columns, in this order; docs/export.md has all of them")
		.option("--bom", "begin a CSV with a mark by which Excel knows UTF-8")
		.option("-t, --tenant <id>", "the tenant to export; may be left out with a key for one tenant");
	addFilterOptions(command).addOption(
		new Option("--order <order>", "which come first").choices(["newest", "oldest"]).default("newest"),
	);
	addAddressOptions(command)
		.addHelpText(
			"after",
			`${FILTERS_HELP} The file has the events there were when the export began, however long it takes. With --out it is
FILE.part until it is whole and checked; if it broke off, the same command goes on with it (Parquet begins again). What
it was checked against is left in FILE.manifest.json. A service that is restarted meanwhile is waited for.`,
		)
		.action((options: ExportOptions) => run(commandLine, options));
	addExamples(
		command,
		["all of it, for a spreadsheet", "auditlog export --tenant globex --format csv --bom --out globex.csv"],
		[
			"the last month of some actions, for other programs",
			"auditlog export --tenant globex --format ndjson --since 30d --action 'user.*' --order oldest | wc -l",
		],
		[
			"for DuckDB, pandas, Spark and their like",
			"auditlog export --tenant globex --format parquet --out globex.parquet",
		],
	);
}

async function run(commandLine: CommandLine, options: ExportOptions): Promise<void> {
	const { stdout, stderr } = commandLine;
	if (options.out === undefined && stdout.isTTY) {
		throw new UsageError("an export is a file: give --out FILE, or > FILE; `auditlog query` shows events");
	}
	const service = findService(commandLine, options);
	const asked = requestOf(options);
	const target: Target =
		options.out === undefined
			? new StdoutTarget(stdout, asked)
			: await PartFile.open(options.out, { asked, command: commandOf(options, service.url) });
	const client = createAuditClient(service);
	const progress = new ExportProgress(stderr, client, target);
	const stop = new AbortController();
	void commandLine.untilStopped().then((exitCode) => {
		commandLine.exitCode = exitCode;
		stop.abort();
	});
	let manifest: ExportManifest;
	try {
		manifest = await receiveExport(client, target, progress, stop.signal);
	} catch (error) {
		await target.keep();
		progress.clear();
		const howToGoOn = target.howToGoOn();
		if (howToGoOn !== undefined) stderr.write(`${howToGoOn}\n`);
		if (!stop.signal.aborted) throw error;
		return;
	}
	progress.clear();
	const events = `${manifest.events.toLocaleString("en")} events, ${manifest.bytes.toLocaleString("en")} bytes`;
	const summary = `${events}: count, length and SHA-256 are as the service's manifest says`;
	if (options.out === undefined) stderr.write(`${summary}\n`);
	else stdout.write(`${options.out}: ${summary} (${options.out}.manifest.json)\n`);
}

function requestOf(options: ExportOptions): ExportRequest {
	const { tenant, format, compress, bom, columns, order } = options;
	const query = filtersOf(options, Date.now());
	query.tenantId = tenant ?? "";
	query.order = order === "oldest" ? Order.OLDEST_FIRST : Order.NEWEST_FIRST;
	return create(ExportRequestSchema, {
		query,
		format: FORMATS[format],
		compression: compress ? COMPRESSIONS[compress] : ExportCompression.NONE,
		csvBom: bom ?? false,
		columns: columns ?? [],
	});
}

/** By what a command is known as the same one: what was written, so that `--since 24h` stays what it was at first. */
function commandOf({ key: _key, url: _url, out: _out, ...written }: ExportOptions, url: string): string {
	return JSON.stringify(Object.entries({ ...written, url }).sort(([a], [b]) => (a < b ? -1 : 1)));
}
