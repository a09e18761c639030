import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { MaskableUnit } from "../auth/principal.ts";
import { AuditError, invalidArgument, type Violation } from "../errors.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { isTimestamp, microsOf } from "../event/time.ts";
import { Order, type QueryRequest, QueryRequestSchema } from "../gen/audit/v1/audit_service_pb.ts";
import { FILTER_NAMES, FILTERS, type Filter, type FilterName, type Filters } from "./filter-table.ts";

/**
 * A search that passed all checks. The same search always looks the same, however it was asked for: page tokens are
 * bound to it.
 */
export interface Search extends Filters {
	readonly tenantId: TenantId;
	readonly newestFirst: boolean;
	/** What is left out of its answers. Not part of what is searched for: the filters do not depend on it. */
	readonly masked: ReadonlySet<MaskableUnit>;
	/** Not part of what is searched for: it may change from page to page. */
	readonly pageSize: number;
}

const PAGE_SIZE = { fallback: 50, most: 1_000 } as const;
const LIST_ITEMS = 100;
/** They are told of in an `audit.read`, which is an event like any other: three quarters of what that may have. */
const FILTERS_BYTES = 192 * 1024;
const KNOWN_ORDERS: ReadonlySet<number> = new Set(Object.values(Order));

/**
 * Checks the filters of a request, for every door.
 *
 * @param tenantId the tenant to search, as access control resolved it; the request's own is not looked at
 * @param masked the units that are not searched by
 * @throws AuditError permission_denied for filters of masked units; invalid_argument with every violation
 */
export function parseSearch(request: QueryRequest, tenantId: TenantId, masked: ReadonlySet<MaskableUnit>): Search {
	refuseMasked(request, masked);
	const violations: Violation[] = [];
	const refuse = (field: string, message: string) => void violations.push({ field, message });

	const checked = FILTER_NAMES.map((name) => [name, checkFilter(name, request[name], refuse)] as const);
	const filters = Object.fromEntries(checked.filter(([, value]) => value !== undefined)) as Filters;
	refuseReversed(filters, "occurredAfter", "occurredBefore", refuse);
	refuseReversed(filters, "recordedAfter", "recordedBefore", refuse);
	refuseTooMuch(request, refuse);
	if (request.pageSize < 0) refuse("page_size", "must not be negative");
	if (!KNOWN_ORDERS.has(request.order)) refuse("order", "must be ORDER_NEWEST_FIRST or ORDER_OLDEST_FIRST");

	if (violations.length > 0) throw invalidArgument(violations, "INVALID_QUERY");
	const newestFirst = request.order !== Order.OLDEST_FIRST;
	const pageSize = Math.min(request.pageSize || PAGE_SIZE.fallback, PAGE_SIZE.most);
	return { ...filters, tenantId, newestFirst, masked, pageSize };
}

/**
 * Refuses filters of units that are masked, whatever their values are and whether or not anything would match: how many
 * events there are with a value would tell the value.
 */
function refuseMasked(request: QueryRequest, masked: ReadonlySet<string>): void {
	const violations = FILTER_NAMES.filter((name) => isGiven(request[name])).flatMap((name) => {
		const hidden = FILTERS[name].units.filter((unit) => masked.has(unit)).join(" and ");
		return hidden ? [{ field: fieldOf(name), message: `searches ${hidden}, which is masked for this key` }] : [];
	});
	if (violations.length === 0) return;
	const fields = violations.map(({ field }) => field).join(", ");
	throw new AuditError("permission_denied", `this key may not search by what is masked for it: ${fields}`, {
		reason: "UNIT_MASKED",
		violations,
	});
}

function isGiven(value: QueryRequest[FilterName]): boolean {
	return value !== undefined && (typeof value === "object" && "length" in value ? value.length > 0 : value !== "");
}

/** Whether what tells of reads is left out: unless it is asked for, or asked for by name. `*` names nothing. */
export function omitsReads({ includeReads, actions = [] }: Search): boolean {
	return !includeReads && !actions.some((name) => name.startsWith("audit."));
}

export type Refuse = (field: string, message: string) => void;

/** The filter's value; undefined if it is not given. */
function checkFilter(name: FilterName, given: QueryRequest[FilterName], refuse: Refuse) {
	const field = fieldOf(name);
	const filter: Filter = FILTERS[name];
	const check = (value: string | number, path: string) => {
		const message = filter.fault?.(value);
		if (message) refuse(path, message);
	};
	if (Array.isArray(given)) return given.length === 0 ? undefined : checkList(field, given, check, refuse);
	if (typeof given === "boolean") return given ? (true as const) : undefined;
	if (typeof given !== "string") return checkBound(field, given, refuse);
	if (given === "") return undefined;
	check(given, field);
	return given;
}

function checkList<T>(
	field: string,
	values: readonly T[],
	check: (value: T, path: string) => void,
	refuse: Refuse,
): readonly T[] | undefined {
	if (values.length > LIST_ITEMS) {
		refuse(field, `must not have more than ${LIST_ITEMS} items`);
		return undefined;
	}
	values.forEach((value, i) => check(value, `${field}[${i}]`));
	return [...new Set(values)].sort((a, b) => (a < b ? -1 : 1));
}

/**
 * A bound of a range. Events are at whole microseconds, so a bound between two of them is the same as the later one:
 * what is at or after it is at or after that, what is before it is before that.
 */
function checkBound(field: string, time: Timestamp | undefined, refuse: Refuse): Micros | undefined {
	const micros = checkTime(field, time, refuse);
	const between = micros !== undefined && micros < LATEST && (time?.nanos ?? 0) % 1000 !== 0;
	return between ? ((micros + 1n) as Micros) : micros;
}

/** The first and the last microsecond of the years 1 to 9999: RFC 3339 writes no others. Events are far from both. */
export const EARLIEST = -62_135_596_800_000_000n as Micros;
export const LATEST = 253_402_300_799_999_999n as Micros;

/** The microsecond of a timestamp in a request, if it has one: as in events, finer digits are cut off. */
export function checkTime(field: string, time: Timestamp | undefined, refuse: Refuse): Micros | undefined {
	if (!time) return undefined;
	if (!isTimestamp(time)) {
		refuse(field, "must be a valid timestamp");
		return undefined;
	}
	return microsOf(time);
}

type Bound = "occurredAfter" | "occurredBefore" | "recordedAfter" | "recordedBefore";

function refuseReversed(filters: Filters, after: Bound, before: Bound, refuse: Refuse): void {
	const [from, to] = [filters[after], filters[before]];
	if (from === undefined || to === undefined || to >= from) return;
	refuse(fieldOf(before), `must not be earlier than ${fieldOf(after)}`);
}

/** Told of the longest one: making that shorter helps. */
function refuseTooMuch(request: QueryRequest, refuse: Refuse): void {
	const sizes = FILTER_NAMES.map((name) => {
		const list: unknown = request[name];
		// One that is longer is refused as it is.
		const counts = Array.isArray(list) && list.length <= LIST_ITEMS;
		return { name, bytes: counts ? Buffer.byteLength(JSON.stringify(list)) : 0 };
	});
	if (sizes.reduce((sum, { bytes }) => sum + bytes, 0) <= FILTERS_BYTES) return;
	const [longest] = sizes.sort((a, b) => b.bytes - a.bytes);
	if (longest)
		refuse(fieldOf(longest.name), `must be shorter: all filters together have ${FILTERS_BYTES} bytes at most`);
}

function fieldOf(name: FilterName): string {
	return QueryRequestSchema.field[name].name;
}
