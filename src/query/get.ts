import type { PoolClient } from "pg";
import type { MaskableUnit } from "../auth/principal.ts";
import { AuditError, invalidArgument, type Violation } from "../errors.ts";
import type { EventId, Micros, TenantId } from "../event/event.ts";
import { isUuid } from "../event/identity.ts";
import { millisOfId, rfc3339 } from "../event/time.ts";
import type { GetEventRequest } from "../gen/audit/v1/audit_service_pb.ts";
import type { Event } from "../gen/audit/v1/event_pb.ts";
import { type Database, inTenant } from "../storage/db.ts";
import { renderEvent } from "../storage/render-event.ts";
import { microsOfColumn, type StoredRow, storedColumns } from "../storage/stored-row.ts";
import { checkTime } from "./filter.ts";

/** Which event: `occurredAt` is needed only where the same id exists at several times. */
export interface EventKey {
	readonly tenantId: TenantId;
	readonly id: EventId;
	readonly occurredAt: Micros | undefined;
}

/** @throws AuditError invalid_argument with every violation */
export function parseEventKey(request: GetEventRequest, tenantId: TenantId): EventKey {
	const violations: Violation[] = [];
	const refuse = (field: string, message: string) => void violations.push({ field, message });
	if (!isUuid(request.id)) refuse("id", "must be a UUID in its 36-character form");
	const occurredAt = checkTime("occurred_at", request.occurredAt, refuse);
	if (violations.length > 0) throw invalidArgument(violations, "INVALID_QUERY");
	return { tenantId, id: request.id.toLowerCase() as EventId, occurredAt };
}

/** How many of an id's times are listed: a caller may have used one id at any number of them. */
const TIMES_LISTED = 10;

/**
 * Gets one event.
 *
 * @param masked the units it is answered without
 * @throws AuditError not_found; failed_precondition, listing the times, if it exists at several
 */
export async function getEvent(db: Database, key: EventKey, masked: ReadonlySet<MaskableUnit>): Promise<Event> {
	const { tenantId, occurredAt } = key;
	const select = `SELECT ${storedColumns(masked).join(", ")} FROM audit.events WHERE tenant_id = $1 AND id = $2`;
	const rows = await inTenant(db, tenantId, (client) =>
		occurredAt === undefined ? byId(client, select, key) : byKey(client, select, key, occurredAt),
	);
	const [row] = rows;
	if (!row) throw new AuditError("not_found", "no such event for this key", { reason: "EVENT_NOT_FOUND" });
	if (rows.length > 1) throw ambiguous(rows.map((each) => rfc3339(microsOfColumn(each.occurred_us))).sort());
	return renderEvent(row, masked);
}

async function byKey(
	client: PoolClient,
	select: string,
	{ tenantId, id }: EventKey,
	occurredAt: Micros,
): Promise<StoredRow[]> {
	const { rows } = await client.query<StoredRow>(`${select} AND occurred_at = $3`, [tenantId, id, rfc3339(occurredAt)]);
	return rows;
}

/**
 * An id that names its millisecond is looked for there, by the primary key. It may also have been used at other times,
 * as any id may: those events are in the partial index of untimed ids.
 */
async function byId(client: PoolClient, select: string, { tenantId, id }: EventKey): Promise<StoredRow[]> {
	const { rows: untimed } = await client.query<StoredRow>(
		`${select} AND NOT timed ORDER BY occurred_at LIMIT ${TIMES_LISTED + 1}`,
		[tenantId, id],
	);
	const millis = millisOfId(id);
	if (millis === undefined || millis > LAST_MILLIS) return untimed;
	const [from, to] = [millis, millis + 1n].map((ms) => rfc3339((ms * 1000n) as Micros));
	const { rows: timed } = await client.query<StoredRow>(
		`${select} AND timed AND occurred_at >= $3 AND occurred_at < $4 ORDER BY occurred_at LIMIT ${TIMES_LISTED + 1}`,
		[tenantId, id, from, to],
	);
	return [...untimed, ...timed];
}

/** 48 bits reach to the year 10889; RFC 3339 ends with 9999. */
const LAST_MILLIS = 253_402_300_799_998n;

function ambiguous(times: string[]): AuditError {
	const listed = times.slice(0, TIMES_LISTED);
	const more = times.length > listed.length ? ", and others" : "";
	const message = `this id exists at several times; give one as occurred_at: ${listed.join(", ")}${more}`;
	const violations = listed.map((time) => ({ field: "occurred_at", message: time }));
	return new AuditError("failed_precondition", message, { reason: "EVENT_ID_AMBIGUOUS", violations });
}
