import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type { Rights } from "../auth/grant.ts";
import { boundTenant, type MaskableUnit, type Principal } from "../auth/principal.ts";
import { invalidArgument, type Violation } from "../errors.ts";
import { isTenantId } from "../event/admit.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { faultOfId, faultOfText } from "../event/text.ts";
import { isTimestamp, microsOf, microsOfDate } from "../event/time.ts";
import type {
	CreateApiKeyRequest,
	ListApiKeysRequest,
	RevokeApiKeyRequest,
	RotateApiKeyRequest,
} from "../gen/audit/v1/access_service_pb.ts";
import type { Unit } from "../gen/audit/v1/event_pb.ts";
import { type KeyList, roleOf, unitOf } from "../query/api-keys.ts";

/** What requests about keys may hold. Every check tells all that is wrong. */

const NAME_BYTES = 256;
const TENANTS = 100;
const YEARS_AHEAD = 10;
const LONGEST_OVERLAP_S = 90 * 86_400;
const DEFAULT_OVERLAP_MS = 86_400_000;

type Refuse = (field: string, message: string) => void;

/** @throws AuditError invalid_argument with every violation */
function check<T>(read: (refuse: Refuse) => T): T {
	const violations: Violation[] = [];
	const value = read((field, message) => void violations.push({ field, message }));
	if (violations.length > 0) throw invalidArgument(violations, "INVALID_REQUEST");
	return value;
}

/** What a new key is to be, checked. */
export type CheckedCreate = Rights & { readonly name: string; readonly expiresAt: Micros | undefined };

export function checkCreate(request: CreateApiKeyRequest, caller: Pick<Principal, "tenants">): CheckedCreate {
	return check((refuse) => {
		const { name } = request;
		const fault = name === "" ? "is required" : faultOfId(name, NAME_BYTES);
		if (fault) refuse("name", fault);
		const role = roleOf(request.role);
		if (!role) refuse("role", request.role === 0 ? "is required" : "is unknown to this version");
		const tenants = checkTenants(request, caller, refuse);
		const maskedUnits = checkUnits(request.maskedUnits, refuse);
		const expiresAt = checkExpiry(request.expiresAt, refuse);
		return { name, role: role ?? "reader", tenants, maskedUnits, expiresAt };
	});
}

function checkTenants(
	{ tenantIds, allTenants }: CreateApiKeyRequest,
	caller: Pick<Principal, "tenants">,
	refuse: Refuse,
): Rights["tenants"] {
	if (tenantIds.length > TENANTS) refuse("tenant_ids", `must not have more than ${TENANTS} items`);
	const tenants = new Set<TenantId>();
	tenantIds.slice(0, TENANTS).forEach((id, i) => {
		if (!isTenantId(id)) refuse(`tenant_ids[${i}]`, "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
		else if (tenants.has(id)) refuse(`tenant_ids[${i}]`, "is there twice");
		else tenants.add(id);
	});
	if (allTenants) {
		if (tenantIds.length > 0) refuse("all_tenants", "must not be given together with tenant_ids");
		return "all";
	}
	const own = boundTenant(caller);
	if (tenantIds.length === 0 && own !== undefined) return new Set([own]);
	if (tenantIds.length === 0) refuse("tenant_ids", "is required, or all_tenants: your key is not bound to one tenant");
	return tenants;
}

function checkUnits(numbers: readonly Unit[], refuse: Refuse): MaskableUnit[] {
	const units = new Set<MaskableUnit>();
	numbers.forEach((number, i) => {
		const unit = unitOf(number);
		// There are few, so a list that goes on for ever repeats itself: the first repetition is told, not each.
		if (!unit) refuse(`masked_units[${i}]`, "is no unit, or unknown to this version");
		else if (units.has(unit)) refuse(`masked_units[${i}]`, "is there twice");
		else units.add(unit);
	});
	return [...units].sort();
}

function checkExpiry(time: Timestamp | undefined, refuse: Refuse): Micros | undefined {
	if (!time) return undefined;
	if (!isTimestamp(time)) {
		refuse("expires_at", "must be a valid timestamp");
		return undefined;
	}
	const micros = microsOf(time);
	const now = new Date();
	const latest = new Date(now);
	latest.setUTCFullYear(now.getUTCFullYear() + YEARS_AHEAD);
	if (micros <= microsOfDate(now)) refuse("expires_at", "must be in the future");
	if (micros > microsOfDate(latest)) refuse("expires_at", `must not be more than ${YEARS_AHEAD} years ahead`);
	return micros;
}

export function checkRotate(request: RotateApiKeyRequest): { overlapMs: number; expiresAt: Micros | undefined } {
	return check((refuse) => {
		checkId(request.id, refuse);
		const overlapMs = checkOverlap(request.overlap, refuse);
		return { overlapMs, expiresAt: checkExpiry(request.expiresAt, refuse) };
	});
}

function checkOverlap(overlap: Duration | undefined, refuse: Refuse): number {
	if (!overlap) return DEFAULT_OVERLAP_MS;
	const { seconds, nanos } = overlap;
	const ms = Number(seconds) * 1000 + nanos / 1e6;
	if (nanos < 0 || nanos > 999_999_999 || ms < 0 || ms > LONGEST_OVERLAP_S * 1000) {
		refuse("overlap", "must be a duration from 0 to 90 days");
	}
	return Math.floor(ms);
}

export function checkRevoke({ id, reason }: RevokeApiKeyRequest): void {
	check((refuse) => {
		checkId(id, refuse);
		const fault = faultOfText(reason, LIMITS.textBytes);
		if (fault) refuse("reason", fault);
	});
}

export function checkList({ tenantId, includeInactive, pageSize, pageToken }: ListApiKeysRequest): KeyList {
	return check((refuse) => {
		const named = isTenantId(tenantId) ? tenantId : undefined;
		if (tenantId !== "" && !named) refuse("tenant_id", "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
		if (pageSize < 0) refuse("page_size", "must not be negative");
		return { tenantId: named, includeInactive, pageSize, pageToken };
	});
}

function checkId(id: string, refuse: Refuse): void {
	if (!/^[0-9a-f]{12}$/.test(id)) refuse("id", "must be the id of a key: 12 hexadecimal digits");
}
