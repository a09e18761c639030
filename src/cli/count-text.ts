import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Temporal } from "temporal-polyfill";
import {
	type AggregateField,
	AggregateFieldSchema,
	type AggregateResponse,
	BucketSize,
	type FieldCounts,
	type ValueCount,
} from "../gen/audit/v1/audit_service_pb.ts";
import { COUNTED_FIELDS, type FieldNumber } from "../query/aggregate-fields.ts";
import type { CommandLine } from "./command-line.ts";
import { wordFor } from "./enum-words.ts";
import { painter } from "./output/colour.ts";
import { Table } from "./output/table.ts";

/** Counts for a person: how many there are, when, and of what. */
export function countText(answer: AggregateResponse, commandLine: CommandLine): string {
	const { buckets, bucketSize, timeZone, fields } = answer;
	const ofTime = buckets.map(({ start, count }) => ({ what: startText(start, bucketSize, timeZone), count }));
	const sections = [
		...(ofTime.length > 0 ? [sectionText(`time (${timeZone})`, ofTime, commandLine)] : []),
		...fields.map((field) => sectionText(wordFor(AggregateFieldSchema, field.field), linesOf(field), commandLine)),
	];
	return [`${numberText(answer.total)} events\n`, ...sections].join("\n");
}

interface Line {
	readonly what: string;
	readonly count: bigint;
}

const BAR = 24;

function sectionText(title: string, lines: readonly Line[], commandLine: CommandLine): string {
	const most = lines.reduce((highest, { count }) => (count > highest ? count : highest), 1n);
	const table = new Table<Line>(
		{
			columns: [
				{ title, text: ({ what }) => what, least: 12 },
				{ title: "events", text: ({ count }) => numberText(count) },
				{ title: "", text: ({ count }) => "█".repeat(Math.ceil((Number(count) / Number(most)) * BAR)) },
			],
		},
		commandLine.stdout,
		painter(commandLine),
	);
	return table.lines(lines);
}

function linesOf({ field, values, other, otherValues, absent, complete }: FieldCounts): Line[] {
	if (!complete) return [{ what: "(too many values to count in time)", count: other }];
	const rest = otherValues === 1n ? "(1 other)" : `(${numberText(otherValues)} others)`;
	return [
		...values.map((value) => ({ what: valueText(field, value), count: value.count })),
		...(other > 0n ? [{ what: rest, count: other }] : []),
		...(absent > 0n ? [{ what: "(none)", count: absent }] : []),
	];
}

function valueText(field: AggregateField, { value, resourceType }: ValueCount): string {
	const names = COUNTED_FIELDS[field as FieldNumber]?.names;
	const known = names?.values.find(({ name }) => name === value);
	if (names && known) return wordFor(names, known.number);
	return resourceType === "" ? value : `${resourceType}:${value}`;
}

/** Hours with their offset from UTC: where the clocks are turned back, there are two of one. */
function startText(start: Timestamp | undefined, size: BucketSize, timeZone: string): string {
	const moment = Temporal.Instant.fromEpochMilliseconds(Number(start?.seconds ?? 0n) * 1000);
	const there = moment.toZonedDateTimeISO(timeZone);
	if (size >= BucketSize.DAY) return there.toPlainDate().toString();
	return there.toString({ smallestUnit: "minute", timeZoneName: "never" });
}

function numberText(count: bigint): string {
	return count.toLocaleString("en");
}
