import { create } from "@bufbuild/protobuf";
import type { MaskableUnit } from "../auth/principal.ts";
import { AuditError, invalidArgument, type Violation } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import { elementPath, pathWithin } from "../event/field-path.ts";
import {
	type AggregateRequest,
	BucketSize,
	Order,
	type QueryRequest,
	QueryRequestSchema,
} from "../gen/audit/v1/audit_service_pb.ts";
import { COUNTED_FIELDS, FIELD_NUMBERS, type FieldNumber, nameOfField } from "./aggregate-fields.ts";
import { type Asked, askedBy } from "./asked.ts";
import { timeZoneOf } from "./buckets.ts";
import { parseSearch, type Refuse, type Search } from "./filter.ts";

/** What is to be counted, after all checks. */
export interface Aggregation {
	readonly search: Search;
	/** Each once, in the order they were asked for. */
	readonly fields: readonly FieldNumber[];
	readonly top: number;
	readonly bucketSize: BucketSize;
	/** In its usual spelling. */
	readonly timeZone: string;
	readonly asked: Asked;
}

const TOP = { fallback: 10, most: 100 } as const;
const FIELDS_LISTED = 100;
const KNOWN_SIZES: ReadonlySet<number> = new Set(Object.values(BucketSize));

/**
 * Checks a request, for every door.
 *
 * @param tenantId the tenant to count in, as access control resolved it
 * @param masked the units that are neither searched nor counted by
 * @param at where the search is in what the caller sent: the fields of its violations begin there
 * @throws AuditError permission_denied for filters or fields of masked units; invalid_argument with every violation
 */
export function parseAggregation(
	request: AggregateRequest,
	tenantId: TenantId,
	masked: ReadonlySet<MaskableUnit>,
	at: string,
): Aggregation {
	const query = request.query ?? create(QueryRequestSchema);
	const violations: Violation[] = [];
	const refuse = (field: string, message: string) => void violations.push({ field, message });
	const search = searchIn(query, tenantId, masked, at, refuse);
	const fields = fieldsOf(request.fields, masked, refuse);
	if (request.top < 0) refuse("top", "must not be negative");
	if (!KNOWN_SIZES.has(request.bucketSize)) refuse("bucket_size", "must be a size there is");
	const timeZone = timeZoneOf(request.timeZone || "UTC");
	if (timeZone === undefined) refuse("time_zone", "must be the IANA name of a time zone, such as Europe/Berlin");
	if (!search || timeZone === undefined || violations.length > 0) throw invalidArgument(violations, "INVALID_QUERY");
	const top = Math.min(request.top || TOP.fallback, TOP.most);
	const { bucketSize } = request;
	return { search, fields, top, bucketSize, timeZone, asked: askedIn(query, search, fields) };
}

/** @returns undefined if it was refused */
function searchIn(
	query: QueryRequest,
	tenantId: TenantId,
	masked: ReadonlySet<MaskableUnit>,
	at: string,
	refuse: Refuse,
): Search | undefined {
	const mustNotBeSet = (name: string) => refuse(pathWithin(at, name), "must not be set: counts have no pages");
	if (query.pageSize !== 0) mustNotBeSet("page_size");
	if (query.pageToken !== "") mustNotBeSet("page_token");
	if (query.order !== Order.UNSPECIFIED) mustNotBeSet("order");
	try {
		return parseSearch({ ...query, pageSize: 0, order: Order.UNSPECIFIED }, tenantId, masked);
	} catch (error) {
		if (!(error instanceof AuditError)) throw error;
		const { code, reason, message, violations } = error;
		const placed = violations.map((each) => ({ ...each, field: pathWithin(at, each.field) }));
		if (code !== "invalid_argument") throw new AuditError(code, message, { reason, violations: placed });
		for (const { field, message } of placed) refuse(field, message);
		return undefined;
	}
}

function fieldsOf(given: readonly number[], masked: ReadonlySet<string>, refuse: Refuse): readonly FieldNumber[] {
	if (given.length > FIELDS_LISTED) refuse("fields", `must not have more than ${FIELDS_LISTED} items`);
	const isMasked = (field: FieldNumber) => masked.has(COUNTED_FIELDS[field].unit);
	if (given.length === 0) return FIELD_NUMBERS.filter((field) => COUNTED_FIELDS[field].usual && !isMasked(field));
	given.forEach((field, i) => {
		if (!(FIELD_NUMBERS as number[]).includes(field)) refuse(elementPath("fields", i), "must be a field there is");
	});
	const fields = [...new Set(given as FieldNumber[])].filter((field) => FIELD_NUMBERS.includes(field));
	const hidden = fields.filter(isMasked);
	if (hidden.length > 0) {
		const message = `this key may not count by what is masked for it: ${hidden.map(nameOfField).join(", ")}`;
		const violations = hidden.map((field) => ({
			field: elementPath("fields", given.indexOf(field)),
			message: `counts by ${COUNTED_FIELDS[field].unit}, which is masked for this key`,
		}));
		throw new AuditError("permission_denied", message, { reason: "UNIT_MASKED", violations });
	}
	return fields;
}

/** Whoever counts by other fields sees something else; how it is divided and how much of it is given does not matter. */
function askedIn(query: QueryRequest, search: Search, fields: readonly FieldNumber[]): Asked {
	const { stated, canonical } = askedBy(query, search);
	const names = fields.map(nameOfField);
	return { stated: { ...stated, fields: names }, canonical: JSON.stringify([canonical, [...names].sort()]) };
}
