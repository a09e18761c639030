import { create, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import type { GenEnum } from "@bufbuild/protobuf/codegenv2";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type Command, Option } from "commander";
import { type QueryRequest, QueryRequestSchema } from "../gen/audit/v1/audit_service_pb.ts";
import { FILTER_NAMES, FILTERS, type FilterName } from "../query/filter-table.ts";
import { UsageError } from "./command-line.ts";
import { parseWord, wordsOf } from "./enum-words.ts";
import { parseResource } from "./resource-option.ts";
import { isTimeAgo, parseTime } from "./time-option.ts";

/** What was given on the command line, by the options' names as Commander spells them. */
export interface FilterOptions {
	readonly [option: string]: unknown;
	readonly resource?: string;
}

/** Adds an option for every filter of a search, and `--resource` for two of them in one. */
export function addFilterOptions(command: Command): Command {
	for (const name of FILTER_NAMES) command.addOption(optionOf(name));
	return command.option("--resource <type:id>", "concerning this resource, as the primary or a related one");
}

/** For the help of a command with these options. */
export const FILTERS_HELP = `
Options are joined by AND, the values of one option by OR. A time is RFC 3339, a date (UTC), or how long ago it is: 90s,
15m, 24h, 7d, 2w.`;

/** @param nowMs what "how long ago" is counted from @throws UsageError */
export function filtersOf(options: FilterOptions, nowMs: number): QueryRequest {
	const resource = options.resource === undefined ? undefined : parseResource("--resource", options.resource);
	const filters: Record<string, unknown> = { resourceType: resource?.type ?? "", resourceId: resource?.id ?? "" };
	for (const name of FILTER_NAMES) {
		const given = givenOf(name, options);
		if (given !== undefined) filters[name] = valueOf(name, given, nowMs);
	}
	return create(QueryRequestSchema, filters as MessageInitShape<typeof QueryRequestSchema>);
}

/**
 * The times that were given as "how long ago", as options that say when that was: a page token is good for the very
 * same times, and the next command comes later.
 */
export function fixedTimes(options: FilterOptions, request: QueryRequest): string {
	const relative = FILTER_NAMES.filter((name) => isTime(name) && isTimeAgo(String(givenOf(name, options) ?? "")));
	return relative.map((name) => ` ${flagOf(name)} ${toJson(TimestampSchema, request[name] as Timestamp)}`).join("");
}

function optionOf(name: FilterName): Option {
	const { option, help } = FILTERS[name];
	const words = enumOf(name);
	return new Option(option, words ? `${help}: ${wordsOf(words).join(", ")}` : help);
}

function flagOf(name: FilterName): string {
	return optionOf(name).long ?? "";
}

function enumOf(name: FilterName): GenEnum<number> | undefined {
	return QueryRequestSchema.field[name].enum as GenEnum<number> | undefined;
}

function isTime(name: FilterName): boolean {
	const { kind } = FILTERS[name];
	return kind === "from" || kind === "before";
}

/** A list for the options that take one, true for those that take no value. */
type Given = string | string[] | true;

function givenOf(name: FilterName, options: FilterOptions): Given | undefined {
	return options[optionOf(name).attributeName()] as Given | undefined;
}

function valueOf(name: FilterName, given: Given, nowMs: number): unknown {
	if (given === true) return true;
	const flag = flagOf(name);
	// To the service an empty text is a filter not given; here it is a variable that was not set.
	if (given === "") throw new UsageError(`${flag} must not be empty`);
	if (typeof given === "string") return isTime(name) ? parseTime(flag, given, nowMs) : given;
	const words = enumOf(name);
	return words ? given.map((word) => parseWord(words, flag, word)) : given;
}
