import { create, fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import type { EventId, EventKind, Micros, TenantId, Units } from "../event/event.ts";
import { timestampOf } from "../event/time.ts";
import { type Event, EventSchema, IntegritySchema, IntegrityState } from "../gen/audit/v1/event_pb.ts";
import type { Projection } from "./row.ts";

/** What a reader selects of an event. Times come as microseconds since 1970: JavaScript's Date stops at milliseconds. */
export interface StoredRow {
	tenant_id: TenantId;
	occurred_us: string;
	id: EventId;
	recorded_us: string;
	action: string;
	leaf_hash: Buffer;
	u_actor: string | null;
	u_changes: string | null;
	u_context: string | null;
	u_description: string | null;
	u_facts: string;
	u_metadata: string | null;
	u_reason: string | null;
	u_resources: string | null;
}

/** The select list that gives a StoredRow. */
export const STORED_COLUMNS: readonly string[] = [
	"tenant_id",
	`${microsSql("occurred_at")} AS occurred_us`,
	"id",
	`${microsSql("recorded_at")} AS recorded_us`,
	"action",
	"leaf_hash",
	"u_actor",
	"u_changes",
	"u_context",
	"u_description",
	"u_facts",
	"u_metadata",
	"u_reason",
	"u_resources",
];

/** A timestamp column as microseconds since 1970, exactly; NULL for infinity, which nobody but a tamperer stores. */
export function microsSql(column: string): string {
	return `CASE WHEN isfinite(${column}) THEN (extract(epoch from ${column}) * 1000000)::bigint END`;
}

export function microsOfColumn(value: string): Micros {
	return BigInt(value) as Micros;
}

/** The wire form of a stored event, rendered from the very text that was hashed. */
export function renderEvent(row: StoredRow): Event {
	const unit = (text: string | null): JsonObject => (text === null ? {} : (JSON.parse(text) as JsonObject));
	const value = (text: string | null): JsonValue | undefined =>
		text === null ? undefined : (JSON.parse(text) as JsonValue);
	const { recorded_by: _, ...facts } = unit(row.u_facts);
	const json: Record<string, JsonValue | undefined> = {
		tenant_id: row.tenant_id,
		id: row.id,
		action: row.action,
		...facts,
		...unit(row.u_actor),
		...unit(row.u_resources),
		...unit(row.u_reason),
		context: value(row.u_context),
		changes: value(row.u_changes),
		metadata: value(row.u_metadata),
		description: value(row.u_description),
	};
	const present = Object.fromEntries(Object.entries(json).filter(([, v]) => v !== undefined)) as JsonObject;
	const event = fromJson(EventSchema, present);
	event.occurredAt = timestampOf(microsOfColumn(row.occurred_us));
	event.recordedAt = timestampOf(microsOfColumn(row.recorded_us));
	event.integrity = create(IntegritySchema, { state: IntegrityState.STORED, leafHash: row.leaf_hash });
	return event;
}

/** What `auditlog verify` reads of a row: everything. */
export interface VerifiedRow extends Omit<StoredRow, "occurred_us" | "recorded_us">, Projection {
	occurred_us: string | null;
	recorded_us: string | null;
	kind: EventKind;
	hv: number;
	timed: boolean;
	salts: Buffer;
	content_mac: Buffer | null;
	batch_id: string;
	ord: number;
}

export const VERIFIED_COLUMNS = STORED_COLUMNS.concat(
	["category", "severity", "outcome", "actor_type", "source", "actor_id", "actor_email"],
	["resource_type", "resource_id", "request_id", "trace_id"],
	["kind", "hv", "timed", "salts", "content_mac", "batch_id", "ord"],
);

/** The exact hashed text of each unit of a stored event. */
export function unitsOf(row: Omit<StoredRow, "occurred_us" | "recorded_us">): Units {
	const units: Units = { facts: row.u_facts };
	if (row.u_actor !== null) units.actor = row.u_actor;
	if (row.u_changes !== null) units.changes = row.u_changes;
	if (row.u_context !== null) units.context = row.u_context;
	if (row.u_description !== null) units.description = row.u_description;
	if (row.u_metadata !== null) units.metadata = row.u_metadata;
	if (row.u_reason !== null) units.reason = row.u_reason;
	if (row.u_resources !== null) units.resources = row.u_resources;
	return units;
}
