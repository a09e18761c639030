import type { KeyObject } from "node:crypto";
import { isIP } from "node:net";
import type { Violation } from "../errors.ts";
import type { Actor, ResourceRef } from "../gen/audit/v1/event_pb.ts";
import { Outcome, Severity } from "../gen/audit/v1/event_pb.ts";
import { canonicalUnits, factsUnit, type RecordedBy } from "./canonical.ts";
import type { AuditEvent, EventId, EventInput, EventKind, Micros, TenantId, Units } from "./event.ts";
import { idOfIdempotencyKey, idOfPlace, isUuid, newEventId } from "./identity.ts";
import { LIMITS } from "./limits.ts";
import { faultOfId, faultOfText } from "./text.ts";
import { isTimestamp, microsOf, millisOfId } from "./time.ts";

/** What admission knows besides the event itself. */
export interface Admission {
	readonly now: Micros;
	readonly recordedBy: RecordedBy;
	/** The tenant the caller's key or subject is bound to: an event need not name it. */
	readonly boundTenant: TenantId | undefined;
	/** Keys the ids derived from idempotency keys and places. */
	readonly idSecret: KeyObject;
	/** The name and time of where the event was found (a message), for events that bring neither id nor time. */
	readonly place?: { readonly name: string; readonly publishedAt: Micros };
	readonly kind?: EventKind;
}

export type Admitted = { ok: true; event: AuditEvent } | { ok: false; violations: Violation[] };

/**
 * Turns untrusted input into an event, or into everything that is wrong with it. Total: it never throws, and whatever
 * it admits can be hashed and stored.
 */
export function admit(input: EventInput, admission: Admission): Admitted {
	const check = new Checks();
	const kind = admission.kind ?? 1;

	const tenantId = (input.tenantId === "" ? admission.boundTenant : input.tenantId) as TenantId | undefined;
	check.tenantId(tenantId);
	check.action(input.action, kind);
	const { occurredAt, id } = admitIdentity(input, tenantId, admission, check);
	const stated = withDefaults(input);
	const units = admitUnits(stated, admission.recordedBy, check);

	const statedFacts = factsUnit(stated);
	// What the caller stated: the limit is the same whoever records it, through whichever door.
	let bytes = Buffer.byteLength(statedFacts) - Buffer.byteLength(units.facts);
	for (const unit of Object.values(units)) bytes += Buffer.byteLength(unit);
	if (bytes > LIMITS.eventBytes) {
		check.refuse("", `the event has ${bytes} bytes of content; the limit is ${LIMITS.eventBytes}`);
	}
	const { violations } = check;
	if (violations.length > 0 || !tenantId || !id || occurredAt === undefined) return { ok: false, violations };
	const { action } = input;
	const recordedAt = admission.now;
	return {
		ok: true,
		event: { tenantId, id, occurredAt, recordedAt, kind, action, units, statedFacts, bytes },
	};
}

function withDefaults(input: EventInput): EventInput {
	return {
		...input,
		severity: input.severity === Severity.UNSPECIFIED ? Severity.INFO : input.severity,
		outcome: input.outcome === Outcome.UNSPECIFIED ? Outcome.SUCCESS : input.outcome,
		retentionClass: input.retentionClass === "" ? "standard" : input.retentionClass,
	};
}

/** The key (tenant, time, id) by CONTRACT 3.1: whatever a retry could not repeat must be given. */
function admitIdentity(
	input: EventInput,
	tenantId: TenantId | undefined,
	{ now, place, idSecret }: Admission,
	check: Checks,
): { occurredAt?: Micros; id?: EventId } {
	const id = input.id.toLowerCase() as EventId;
	const hasId = input.id !== "";
	const hasKey = input.idempotencyKey !== "";
	check.idString("idempotency_key", input.idempotencyKey);
	if (hasId && !isUuid(id)) {
		check.refuse("id", "must be a UUID in its 36-character form");
		return {};
	}
	if (hasId && hasKey) check.refuse("idempotency_key", "must not be given together with id");

	let occurredAt: Micros;
	if (input.occurredAt) {
		if (!isTimestamp(input.occurredAt)) {
			check.refuse("occurred_at", "must be a valid timestamp");
			return {};
		}
		occurredAt = microsOf(input.occurredAt);
	} else if (hasId && /^.{14}7.{4}[89ab]/.test(id)) {
		occurredAt = ((millisOfId(id) ?? 0n) * 1000n) as Micros;
	} else if (hasId || hasKey) {
		const what = hasId ? "an id that is not a UUIDv7" : "an idempotency_key";
		check.refuse("occurred_at", `is required with ${what}: without it a retry could not be recognised`);
		return {};
	} else {
		occurredAt = place?.publishedAt ?? now;
	}
	if (!check.window(occurredAt, now) || !tenantId) return {};

	if (hasId) return { occurredAt, id };
	if (hasKey) return { occurredAt, id: idOfIdempotencyKey(idSecret, tenantId, input.idempotencyKey, occurredAt) };
	if (place) return { occurredAt, id: idOfPlace(idSecret, place.name, occurredAt) };
	return { occurredAt, id: newEventId(occurredAt) };
}

function admitUnits(input: EventInput, recordedBy: RecordedBy, check: Checks): Units {
	if (input.actor) check.actor("actor", input.actor);
	else check.refuse("actor", "is required");
	check.each("on_behalf_of", input.onBehalfOf, LIMITS.onBehalfOf, (path, actor) => check.actor(path, actor));
	if (input.primaryResource) check.resource("primary_resource", input.primaryResource);
	const { relatedResources } = input;
	check.each("related_resources", relatedResources, LIMITS.relatedResources, (path, item) =>
		check.resource(path, item),
	);
	check.context(input.context);
	check.idString("source", input.source);
	check.idString("retention_class", input.retentionClass, LIMITS.retentionClassBytes);
	check.text("description", input.description);
	check.text("outcome_reason", input.outcomeReason);
	check.text("reason", input.reason);

	const changedFields = input.changes?.changedFields ?? [];
	check.each("changes.changed_fields", changedFields, LIMITS.changedFields, (path, field) =>
		check.idString(path, field),
	);
	return canonicalUnits(input, recordedBy, ({ field, message }) => check.refuse(field, message));
}

/** The rules for single fields; each adds what is wrong to the one list. Values are never repeated in messages. */
class Checks {
	readonly violations: Violation[] = [];

	refuse(field: string, message: string): void {
		if (this.violations.length < LIMITS.violations) this.violations.push({ field, message });
	}

	tenantId(tenantId: TenantId | undefined): void {
		if (!tenantId) this.refuse("tenant_id", "is required unless the key, or the NATS subject, is of one tenant");
		else if (!isTenantId(tenantId)) this.refuse("tenant_id", "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
	}

	action(action: string, kind: EventKind): void {
		if (action === "") this.refuse("action", "is required");
		else if (!/^[a-z0-9._-]{1,127}$/.test(action)) this.refuse("action", "must be 1 to 127 of a-z 0-9 . _ -");
		else if (kind === 1 && action.startsWith("audit.")) {
			this.refuse("action", "must not begin with audit. (those are the service's own)");
		}
	}

	window(occurredAt: Micros, now: Micros): boolean {
		const earliest = new Date(Number(now / 1000n));
		earliest.setUTCFullYear(earliest.getUTCFullYear() - LIMITS.pastYears);
		if (occurredAt < BigInt(earliest.getTime()) * 1000n) {
			this.refuse("occurred_at", `must not lie more than ${LIMITS.pastYears} years back`);
		} else if (occurredAt > now + BigInt(LIMITS.aheadHours) * 3_600_000_000n) {
			this.refuse("occurred_at", `must not lie more than ${LIMITS.aheadHours} hours ahead`);
		} else return true;
		return false;
	}

	actor(path: string, actor: Actor): void {
		if (actor.id === "") this.refuse(`${path}.id`, "is required");
		this.idString(`${path}.id`, actor.id);
		this.text(`${path}.display_name`, actor.displayName, LIMITS.nameBytes);
		this.idString(`${path}.email`, actor.email, LIMITS.emailBytes);
	}

	resource(path: string, resource: ResourceRef): void {
		this.idString(`${path}.type`, resource.type);
		if (resource.id === "") this.refuse(`${path}.id`, "is required");
		this.idString(`${path}.id`, resource.id);
		this.text(`${path}.display_name`, resource.displayName, LIMITS.nameBytes);
		this.idString(`${path}.role`, resource.role);
	}

	context(context: EventInput["context"]): void {
		if (!context) return;
		if (context.ipAddress !== "" && isIP(context.ipAddress) === 0) {
			this.refuse("context.ip_address", "must be an IPv4 or IPv6 address, or absent");
		}
		this.text("context.user_agent", context.userAgent);
		this.idString("context.request_id", context.requestId);
		this.idString("context.trace_id", context.traceId);
		this.idString("context.session_id", context.sessionId);
		this.text("context.location", context.location, LIMITS.nameBytes);
	}

	/** Checks the items of a list; of one that is too long nothing but that is said. */
	each<T>(path: string, items: readonly T[], limit: number, check: (path: string, item: T) => void): void {
		if (items.length > limit) this.refuse(path, `must not have more than ${limit} items`);
		else items.forEach((item, i) => check(`${path}[${i}]`, item));
	}

	idString(path: string, value: string, limit: number = LIMITS.idBytes): void {
		const fault = faultOfId(value, limit);
		if (fault) this.refuse(path, fault);
	}

	text(path: string, value: string, limit: number = LIMITS.textBytes): void {
		const fault = faultOfText(value, limit);
		if (fault) this.refuse(path, fault);
	}
}

export function isTenantId(value: string): value is TenantId {
	return /^[A-Za-z0-9._:-]{1,128}$/.test(value);
}
