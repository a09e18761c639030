import type { Micros, UnitPath } from "../event/event.ts";
import { isUuid } from "../event/identity.ts";
import { LIMITS } from "../event/limits.ts";
import { faultOfId, faultOfText } from "../event/text.ts";
import type { QueryRequest } from "../gen/audit/v1/audit_service_pb.ts";
import { Outcome, Severity } from "../gen/audit/v1/event_pb.ts";

/** The fields of a request that choose events. A field added to the contract has no entry below and does not compile. */
export type FilterName = Exclude<
	keyof QueryRequest,
	"$typeName" | "$unknown" | "tenantId" | "pageSize" | "pageToken" | "order"
>;

/** What a filter has once it is checked, by its kind. What each kind means in SQL is in conditions.ts. */
export interface FilterValues {
	/** The column is at or after this time. */
	from: Micros;
	/** The column is before this time. */
	before: Micros;
	/** The column is this text. */
	text: string;
	/** The column is any of these. */
	texts: readonly string[];
	numbers: readonly number[];
	uuids: readonly string[];
	/** The column is any of these, or begins with one of those that end in `*`. */
	names: readonly string[];
	/** It is not so. A column that is empty is none of them. */
	notTexts: readonly string[];
	notNames: readonly string[];
	/** The actor, or one whom the actor acted for, has one of these ids. */
	actors: readonly string[];
	/** One of those, or the primary or a related resource, has one of these ids. */
	touching: readonly string[];
	/** The primary or a related resource has this; the one that has the type has the id, too. */
	resource: string;
	/** All of this text's words are in the event's texts. */
	words: string;
	/** The events that tell of reads are not left out. */
	reads: true;
}

/** The kinds that are not about one column. */
type Composite = "resource" | "actors" | "touching" | "words" | "reads";

interface FilterOf<Kind extends keyof FilterValues> {
	readonly kind: Kind;
	/** What it looks into: whoever may not see one of these may not search by it. Empty: the header, which all may see. */
	readonly units: readonly UnitPath[];
	/** What is wrong with a value, or one of a list; never the value itself. Left out where any will do. */
	fault?(value: string | number): string | undefined;
	/** The option of `auditlog query`, and what it says of itself. Times and enums have their forms added. */
	readonly option: string;
	readonly help: string;
}
export type ColumnFilter = FilterOf<Exclude<keyof FilterValues, Composite>> & { readonly column: string };
export type Filter = FilterOf<Composite> | ColumnFilter;

/**
 * Every filter there is, in the order of `auditlog query --help`: checks, SQL, the binding of page tokens and the options
 * of the command line come from here, parameters of REST from the request's descriptor. What each means to a caller is
 * said in the contract.
 */
export const FILTERS = {
	occurredAfter: {
		kind: "from",
		units: [],
		column: "occurred_at",
		option: "--since <time>",
		help: "at or after this time",
	},
	occurredBefore: {
		kind: "before",
		units: [],
		column: "occurred_at",
		option: "--until <time>",
		help: "before this time",
	},
	actorIds: {
		kind: "texts",
		units: ["actor"],
		column: "actor_id",
		fault: faultOfStoredId,
		option: "--actor <id...>",
		help: "by any of these actors",
	},
	actorEmails: {
		kind: "texts",
		units: ["actor"],
		column: "actor_email",
		fault: faultOfStoredEmail,
		option: "--actor-email <address...>",
		help: "by any of the actors with these e-mail addresses, exactly as they were written",
	},
	// Unlike severity and outcome, category and type of actor are stored as they came: unspecified may be searched for. So
	// may numbers that this version has no name for.
	actorTypes: {
		kind: "numbers",
		units: ["actor"],
		column: "actor_type",
		option: "--actor-type <word...>",
		help: "by any of these types of actor",
	},
	actions: {
		kind: "names",
		units: [],
		column: "action",
		fault: faultOfAction,
		option: "--action <name...>",
		help: "any of these actions; 'user.*' for all that begin so",
	},
	categories: {
		kind: "numbers",
		units: ["facts"],
		column: "category",
		option: "--category <word...>",
		help: "of any of these",
	},
	severities: {
		kind: "numbers",
		units: ["facts"],
		column: "severity",
		fault: neverStored(Severity.UNSPECIFIED),
		option: "--severity <word...>",
		help: "of any of these",
	},
	outcomes: {
		kind: "numbers",
		units: ["facts"],
		column: "outcome",
		fault: neverStored(Outcome.UNSPECIFIED),
		option: "--outcome <word...>",
		help: "with any of these",
	},
	sources: {
		kind: "texts",
		units: ["facts"],
		column: "source",
		fault: faultOfStoredId,
		option: "--source <name...>",
		help: "through any of these channels",
	},
	resourceId: {
		kind: "resource",
		units: ["resources"],
		fault: faultOfStoredId,
		option: "--resource-id <id>",
		help: "concerning a resource with this id, of whatever type",
	},
	resourceType: {
		kind: "resource",
		units: ["resources"],
		fault: faultOfStoredId,
		option: "--resource-type <type>",
		help: "concerning a resource of this type",
	},
	requestId: {
		kind: "text",
		units: ["context"],
		column: "request_id",
		fault: faultOfStoredId,
		option: "--request-id <id>",
		help: "within this request",
	},
	traceId: {
		kind: "text",
		units: ["context"],
		column: "trace_id",
		fault: faultOfStoredId,
		option: "--trace-id <id>",
		help: "within this trace",
	},
	ids: {
		kind: "uuids",
		units: [],
		column: "id",
		fault: faultOfUuid,
		option: "--id <uuid...>",
		help: "any of these events",
	},
	recordedAfter: {
		kind: "from",
		units: [],
		column: "recorded_at",
		option: "--recorded-since <time>",
		help: "that reached the service at or after this time",
	},
	recordedBefore: {
		kind: "before",
		units: [],
		column: "recorded_at",
		option: "--recorded-until <time>",
		help: "that reached the service before this time",
	},
	notActions: {
		kind: "notNames",
		units: [],
		column: "action",
		fault: faultOfAction,
		option: "--not-action <name...>",
		help: "none of these actions; 'user.*' for all that begin so",
	},
	notActorIds: {
		kind: "notTexts",
		units: ["actor"],
		column: "actor_id",
		fault: faultOfStoredId,
		option: "--not-actor <id...>",
		help: "by none of these actors",
	},
	actorOrOnBehalfOfIds: {
		kind: "actors",
		units: ["actor"],
		fault: faultOfStoredId,
		option: "--by-or-for <id...>",
		help: "by any of these, or by somebody who acted for them",
	},
	touchingIds: {
		kind: "touching",
		units: ["actor", "resources"],
		fault: faultOfStoredId,
		option: "--touching <id...>",
		help: "in which any of these had a part: as actor, as one acted for, as any resource",
	},
	text: {
		kind: "words",
		units: ["actor", "description", "resources"],
		fault: faultOfWords,
		option: "--text <words>",
		help: "with all of these words in action, description and display names; 'log*' for words that begin so",
	},
	includeReads: {
		kind: "reads",
		units: [],
		option: "--include-reads",
		help: "also who read this log (audit.read, audit.read.summary), which is left out otherwise",
	},
} as const satisfies Record<FilterName, Filter>;

export const FILTER_NAMES = Object.keys(FILTERS) as FilterName[];

/** The filters that are given, checked. Lists are sets: sorted, without repetitions. */
export type Filters = { readonly [Name in FilterName]?: FilterValues[(typeof FILTERS)[Name]["kind"]] };

/** The rule for identifiers in events: what breaks it was never stored. */
function faultOfStoredId(value: string): string | undefined {
	return value === "" ? "must not be empty" : faultOfId(value, LIMITS.idBytes);
}

function faultOfStoredEmail(value: string): string | undefined {
	return value === "" ? "must not be empty" : faultOfId(value, LIMITS.emailBytes);
}

function faultOfAction(action: string): string | undefined {
	if (/^([a-z0-9._-]{1,127}|[a-z0-9._-]{0,127}\*)$/.test(action)) return undefined;
	return "must be 1 to 127 of a-z 0-9 . _ -, or the beginning of such a name followed by *";
}

const WORDS = { bytes: 256, most: 16 } as const;

/** What a word is, is said in `audit.folded`; here they are counted alone. */
function faultOfWords(text: string): string | undefined {
	const fault = faultOfText(text, WORDS.bytes);
	if (fault) return fault;
	const runs = text.normalize("NFKD").match(/[\p{L}\p{N}\p{M}]+/gu) ?? [];
	const words = runs.filter((run) => /[\p{L}\p{N}]/u.test(run)).length;
	if (words === 0) return "must have a word: letters or digits";
	return words > WORDS.most ? `must not have more than ${WORDS.most} words` : undefined;
}

function faultOfUuid(id: string): string | undefined {
	return isUuid(id) ? undefined : "must be a UUID in its 36-character form";
}

/** Admission replaces the zero of severity and outcome by their defaults: a search for it is a mistake. */
function neverStored(zero: number) {
	return (value: number) => (value === zero ? "must be a value that events have: not UNSPECIFIED" : undefined);
}
