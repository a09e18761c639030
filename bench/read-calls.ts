import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Micros } from "../src/event/event.ts";
import { timestampOf } from "../src/event/time.ts";
import type { QueryRequestSchema } from "../src/gen/audit/v1/audit_service_pb.ts";
import { ActorType, Category, Outcome, Severity } from "../src/gen/audit/v1/event_pb.ts";
import { ACTIONS, type Events, LARGEST } from "./read-events.ts";

/** What is asked of the largest tenant's log, by filter: values that are there in known numbers, and values that are not. */

export type Request = Exclude<MessageInitShape<typeof QueryRequestSchema>, { $typeName: string }>;

/** In the whole log, or by `occurred_after` and `occurred_before` in one month: a closed one, or the one that is written to. */
export type Place = "anywhere" | "closed month" | "hot month";

/** How many of the tenant's events have the value: none, at most 30, 0.1 to 5 %, or more. */
export type Frequency = "absent" | "rare" | "medium" | "common";

export interface Call {
	readonly filter: string;
	/** What is asked for, in words. */
	readonly value: string;
	readonly frequency: Frequency;
	readonly place: Place;
	readonly request: Request;
	/** How many events the answer has to have, where that is known: more than what fits on a page is a full page. */
	readonly found: number | undefined;
}

export const PAGE_SIZE = 50;
export const NEVER_USED = "00000000-0000-4000-8000-000000000000";

/** Every filter's questions in every place. */
export function callsOf(events: Events): Call[] {
	const { closed, hot } = events.rares;
	const bounds = (from: Micros, to: Micros) => ({ occurredAfter: timestampOf(from), occurredBefore: timestampOf(to) });
	const places: Record<Place, Request> = {
		anywhere: {},
		"closed month": bounds(closed.from, closed.to),
		"hot month": bounds(hot.from, hot.to),
	};
	const base = { tenantId: LARGEST, pageSize: PAGE_SIZE };
	const call = (asked: Omit<Call, "place">, place: Place): Call => ({
		...asked,
		place,
		request: { ...base, ...asked.request, ...places[place] },
	});
	const everywhere = (asked: Omit<Call, "place">) =>
		(Object.keys(places) as Place[]).map((place) => call(asked, place));
	const rare = [closed, hot].flatMap((each) =>
		rareValues(each).flatMap(([filter, request, found]) =>
			(["anywhere", `${each.name} month`] as const).map((place) =>
				call({ filter, value: `one in the ${each.name} month`, frequency: "rare", request, found }, place),
			),
		),
	);
	const absent = absentValues(events).flatMap(([filter, value, request]) =>
		everywhere({ filter, value, frequency: "absent", request, found: 0 }),
	);
	const others = frequentValues(events).flatMap(([filter, value, frequency, request]) =>
		everywhere({ filter, value, frequency, request, found: undefined }),
	);
	return [...rare, ...absent, ...others];
}

function rareValues(rare: Events["rares"]["closed"]): [string, Request, number][] {
	return [
		["actor_ids", { actorIds: [rare.actor] }, 17],
		["actor_emails", { actorEmails: [rare.email] }, 17],
		["actions", { actions: [rare.action] }, 12],
		["actions", { actions: [`${rare.action.slice(0, -2)}*`] }, 12],
		["sources", { sources: [rare.source] }, 17],
		["resource_id", { resourceId: rare.resource }, 12],
		["resource_type", { resourceType: rare.resourceType }, 12],
		["resource_type and resource_id", { resourceType: rare.resourceType, resourceId: rare.resource }, 12],
		["request_id", { requestId: rare.requestId }, 1],
		["trace_id", { traceId: rare.traceId }, 1],
		["ids", { ids: [rare.id] }, 1],
		["actor_or_on_behalf_of_ids", { actorOrOnBehalfOfIds: [rare.actor] }, 21],
		["touching_ids", { touchingIds: [rare.actor] }, 21],
		["touching_ids", { touchingIds: [rare.resource] }, 12],
		["text", { text: rare.word }, 12],
		["text", { text: `${rare.word.slice(0, -1)}*` }, 12],
	];
}

function absentValues({ set, rares }: Events): [string, string, Request][] {
	const later = timestampOf((BigInt(set.until.getTime() + 365 * 86_400_000) * 1000n) as Micros);
	const before = timestampOf((rares.closed.from - 10n * 366n * 86_400_000_000n) as Micros);
	return [
		["actor_ids", "nobody", { actorIds: ["nobody"] }],
		["actor_emails", "nobody's", { actorEmails: ["nobody@example.com"] }],
		["actor_types", "AGENT", { actorTypes: [ActorType.AGENT] }],
		["actions", "one never done", { actions: ["never.done"] }],
		["actions", "a beginning no action has", { actions: ["never.*"] }],
		["categories", "OTHER", { categories: [Category.OTHER] }],
		["severities", "DEBUG", { severities: [Severity.DEBUG] }],
		["outcomes", "PENDING", { outcomes: [Outcome.PENDING] }],
		["sources", "one never used", { sources: ["fax"] }],
		["resource_id", "none", { resourceId: "none" }],
		["resource_type", "none", { resourceType: "none" }],
		["request_id", "none", { requestId: NEVER_USED }],
		["trace_id", "none", { traceId: NEVER_USED }],
		["actor_or_on_behalf_of_ids", "nobody", { actorOrOnBehalfOfIds: ["nobody"] }],
		["touching_ids", "nobody", { touchingIds: ["nobody"] }],
		["text", "a word nobody wrote", { text: "syzygy" }],
		["text", "two words, one of them nobody's", { text: "login syzygy" }],
		["ids", "one never used, timed", { ids: [rares.closed.id.replace(/.{4}$/, "0000")] }],
		["ids", "one never used, not timed", { ids: [NEVER_USED] }],
		["recorded_after", "a year ahead", { recordedAfter: later }],
		["recorded_before", "before there was a log", { recordedBefore: before }],
	];
}

function frequentValues({ set }: Events): [string, string, Frequency, Request][] {
	const lastAction = ACTIONS.at(-1)?.name ?? "";
	const hourAgo = timestampOf((BigInt(set.until.getTime() - 3_600_000) * 1000n) as Micros);
	return [
		["outcomes", "DENIED, 0.2 %", "medium", { outcomes: [Outcome.DENIED] }],
		["severities", "CRITICAL, 0.1 %", "medium", { severities: [Severity.CRITICAL] }],
		["severities", "ERROR, 0.9 %", "medium", { severities: [Severity.ERROR] }],
		["outcomes", "FAILURE, 2 %", "medium", { outcomes: [Outcome.FAILURE] }],
		["sources", "kiosk, 0.2 %", "medium", { sources: ["kiosk"] }],
		["sources", "mobile, 4 %", "medium", { sources: ["mobile"] }],
		["actor_ids", "a service with 0.2 %", "medium", { actorIds: ["svc-backup-agent"] }],
		["actor_ids", "a service with 2 %", "medium", { actorIds: ["svc-billing-job"] }],
		["actor_ids", "a busy person, 0.8 %", "medium", { actorIds: ["user-0"] }],
		["actions", `${lastAction}, 0.4 %`, "medium", { actions: [lastAction] }],
		["actions", "policy.*, 3 %", "medium", { actions: ["policy.*"] }],
		["categories", "SECURITY, 3 %", "medium", { categories: [Category.SECURITY] }],
		["resource_type", "report, 1 %", "medium", { resourceType: "report" }],
		["resource_id", "a busy document, 0.4 %", "medium", { resourceId: "document-0" }],
		["actor_or_on_behalf_of_ids", "a busy person, 0.9 %", "medium", { actorOrOnBehalfOfIds: ["user-0"] }],
		["touching_ids", "a busy person, 0.9 %", "medium", { touchingIds: ["user-0"] }],
		["text", "two words of 10 % each", "medium", { text: "quarterly invoice" }],
		["text", "a word of 10 %", "common", { text: "quarterly" }],
		["not_actions", "not user.viewed", "common", { notActions: ["user.viewed"] }],
		["not_actor_ids", "not by a service", "common", { notActorIds: ["svc-api-gateway"] }],
		["recorded_after", "an hour before the end", "medium", { recordedAfter: hourAgo }],
		["actor_ids", "a service with 10 %", "common", { actorIds: ["svc-api-gateway"] }],
		["actor_types", "USER, 82 %", "common", { actorTypes: [ActorType.USER] }],
		["actions", "user.viewed, 21 %", "common", { actions: ["user.viewed"] }],
		["categories", "AUTH, 40 %", "common", { categories: [Category.AUTH] }],
		["severities", "INFO, 90 %", "common", { severities: [Severity.INFO] }],
		["outcomes", "SUCCESS, 98 %", "common", { outcomes: [Outcome.SUCCESS] }],
		["sources", "api, 50 %", "common", { sources: ["api"] }],
		["resource_type", "document, 34 %", "common", { resourceType: "document" }],
		["include_reads", "with those that tell of reads", "common", { includeReads: true }],
	];
}

/** The pairs of filters that are likeliest to be asked for together. */
export function pairsOf(events: Events): { readonly name: string; readonly request: Request }[] {
	const { hot } = events.rares;
	const week = {
		occurredAfter: timestampOf((hot.to - 7n * 86_400_000_000n) as Micros),
		occurredBefore: timestampOf(hot.to),
	};
	const [action = ""] = ACTIONS.slice(13).map(({ name }) => name);
	const person = { actorIds: ["user-3"] };
	const resource = { resourceId: "document-7" };
	const pairs: [string, Request][] = [
		["actor and time", { ...person, ...week }],
		["actor and action", { ...person, actions: ["document.*"] }],
		["actor and outcome", { ...person, outcomes: [Outcome.FAILURE] }],
		["actor and resource type", { ...person, resourceType: "document" }],
		["resource type and id", { ...resource, resourceType: "document" }],
		["resource and time", { ...resource, ...week }],
		["resource and action", { ...resource, actions: ["document.updated"] }],
		["action and time", { actions: [action], ...week }],
		["severity and category", { severities: [Severity.ERROR], categories: [Category.SECURITY] }],
		["outcome and time", { outcomes: [Outcome.DENIED], ...week }],
	];
	return pairs.map(([name, request]) => ({ name, request: { tenantId: LARGEST, pageSize: PAGE_SIZE, ...request } }));
}
