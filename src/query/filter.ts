import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { invalidArgument, type Violation } from "../errors.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { faultOfId } from "../event/text.ts";
import { isTimestamp, microsOf } from "../event/time.ts";
import { Order, type QueryRequest } from "../gen/audit/v1/audit_service_pb.ts";
import { type Category, Outcome, Severity } from "../gen/audit/v1/event_pb.ts";

/**
 * A search that passed all checks. An empty list or an absent value is a filter not given. Lists are sets: sorted,
 * without repetitions, so that the same search always looks the same (page tokens are bound to it).
 */
export interface Search {
	readonly tenantId: TenantId;
	readonly newestFirst: boolean;
	/** Not part of what is searched for: it may change from page to page. */
	readonly pageSize: number;
	/** Inclusive. */
	readonly occurredAfter: Micros | undefined;
	/** Exclusive. */
	readonly occurredBefore: Micros | undefined;
	readonly actorIds: readonly string[];
	/** Exact names. */
	readonly actions: readonly string[];
	/** Beginnings of names; with the exact ones, any of them matches. */
	readonly actionPrefixes: readonly string[];
	readonly categories: readonly Category[];
	readonly severities: readonly Severity[];
	readonly outcomes: readonly Outcome[];
	readonly sources: readonly string[];
	readonly resourceType: string | undefined;
	readonly resourceId: string | undefined;
}

const PAGE_SIZE = { fallback: 50, most: 1_000 } as const;
const LIST_ITEMS = 100;
const KNOWN_ORDERS: ReadonlySet<number> = new Set(Object.values(Order));

/**
 * Checks the filters of a request, for every door.
 *
 * @param tenantId the tenant to search, as access control resolved it; the request's own is not looked at
 * @throws AuditError invalid_argument with every violation
 */
export function parseSearch(request: QueryRequest, tenantId: TenantId): Search {
	const violations: Violation[] = [];
	const refuse = (field: string, message: string) => void violations.push({ field, message });
	const list = <T>(field: string, values: readonly T[], fault: (value: T) => string | undefined) =>
		setOf(field, values, fault, refuse);

	const actions = list("actions", request.actions, faultOfAction);
	const search: Search = {
		tenantId,
		newestFirst: request.order !== Order.OLDEST_FIRST,
		pageSize: Math.min(request.pageSize || PAGE_SIZE.fallback, PAGE_SIZE.most),
		occurredAfter: checkBound("occurred_after", request.occurredAfter, refuse),
		occurredBefore: checkBound("occurred_before", request.occurredBefore, refuse),
		actorIds: list("actor_ids", request.actorIds, faultOfStoredId),
		actions: actions.filter((action) => !action.endsWith("*")),
		actionPrefixes: actions.filter((action) => action.endsWith("*")).map((action) => action.slice(0, -1)),
		// CATEGORY_UNSPECIFIED is what events without a category have, so it may be searched for; numbers this version
		// has no name for may be stored too.
		categories: list("categories", request.categories, () => undefined),
		severities: list("severities", request.severities, neverStored(Severity.UNSPECIFIED)),
		outcomes: list("outcomes", request.outcomes, neverStored(Outcome.UNSPECIFIED)),
		sources: list("sources", request.sources, faultOfStoredId),
		resourceType: optionalId("resource_type", request.resourceType, refuse),
		resourceId: optionalId("resource_id", request.resourceId, refuse),
	};
	if (request.pageSize < 0) refuse("page_size", "must not be negative");
	if (!KNOWN_ORDERS.has(request.order)) refuse("order", "must be ORDER_NEWEST_FIRST or ORDER_OLDEST_FIRST");
	const { occurredAfter, occurredBefore } = search;
	if (occurredAfter !== undefined && occurredBefore !== undefined && occurredBefore < occurredAfter) {
		refuse("occurred_before", "must not be earlier than occurred_after");
	}
	if (violations.length > 0) throw invalidArgument(violations, "INVALID_QUERY");
	return search;
}

export type Refuse = (field: string, message: string) => void;

function setOf<T>(
	field: string,
	values: readonly T[],
	fault: (value: T) => string | undefined,
	refuse: Refuse,
): readonly T[] {
	if (values.length > LIST_ITEMS) {
		refuse(field, `must not have more than ${LIST_ITEMS} items`);
		return [];
	}
	values.forEach((value, i) => {
		const message = fault(value);
		if (message) refuse(`${field}[${i}]`, message);
	});
	return [...new Set(values)].sort((a, b) => (a < b ? -1 : 1));
}

function faultOfAction(action: string): string | undefined {
	if (/^([a-z0-9._-]{1,127}|[a-z0-9._-]{0,127}\*)$/.test(action)) return undefined;
	return "must be 1 to 127 of a-z 0-9 . _ -, or the beginning of such a name followed by *";
}

/** The rule for identifiers in events: what breaks it was never stored. */
function faultOfStoredId(value: string): string | undefined {
	return value === "" ? "must not be empty" : faultOfId(value, LIMITS.idBytes);
}

function optionalId(field: string, value: string, refuse: Refuse): string | undefined {
	if (value === "") return undefined;
	const message = faultOfStoredId(value);
	if (message) refuse(field, message);
	return value;
}

/** Admission replaces the zero of severity and outcome by their defaults: a search for it is a mistake. */
function neverStored(zero: number) {
	return (value: number) => (value === zero ? "must be a value that events have: not UNSPECIFIED" : undefined);
}

/**
 * A bound of a range. Events are at whole microseconds, so a bound between two of them is the same as the later one:
 * what is at or after it is at or after that, what is before it is before that.
 */
function checkBound(field: string, time: Timestamp | undefined, refuse: Refuse): Micros | undefined {
	const micros = checkTime(field, time, refuse);
	return micros !== undefined && time && time.nanos % 1000 !== 0 ? ((micros + 1n) as Micros) : micros;
}

/** The microsecond of a timestamp in a request, if it has one: as in events, finer digits are cut off. */
export function checkTime(field: string, time: Timestamp | undefined, refuse: Refuse): Micros | undefined {
	if (!time) return undefined;
	if (!isTimestamp(time)) {
		refuse(field, "must be a valid timestamp");
		return undefined;
	}
	return microsOf(time);
}
