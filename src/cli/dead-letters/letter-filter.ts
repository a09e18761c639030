import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
	type DeadLetterFilter,
	DeadLetterFilterSchema,
	DeadLetterState,
} from "../../gen/audit/v1/dead_letter_service_pb.ts";
import { parseTime } from "../time-option.ts";

export interface FilterOptions {
	tenant?: string;
	reason?: string[];
	since?: string;
	until?: string;
}

/** Adds the options that say which letters. */
export function addFilterOptions(command: Command): Command {
	return command
		.option("-t, --tenant <id>", "letters of this tenant; default: of all that the key may see")
		.option("--reason <word...>", "letters refused for any of these reasons, such as INVALID_EVENT")
		.option("--since <time>", "stored at or after this time: RFC 3339, a date, or how long ago (90s, 15m, 24h, 7d, 2w)")
		.option("--until <time>", "stored before this time");
}

export function filterOf(
	options: FilterOptions,
	state: DeadLetterState = DeadLetterState.UNSPECIFIED,
): DeadLetterFilter {
	const now = Date.now();
	const { tenant = "", reason = [], since, until } = options;
	return create(DeadLetterFilterSchema, {
		tenantId: tenant,
		state,
		reasons: reason,
		...(since && { receivedAfter: parseTime("--since", since, now) }),
		...(until && { receivedBefore: parseTime("--until", until, now) }),
	});
}
