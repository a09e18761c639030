import { type MaskableUnit, NOTHING_MASKED } from "../auth/principal.ts";
import {
	type EventId,
	type EventKind,
	type Micros,
	type TenantId,
	UNIT_PATHS,
	type UnitPath,
	type Units,
} from "../event/event.ts";
import { SALT_BYTES } from "../integrity/entry.ts";
import type { Projection } from "./row.ts";

/** The commitment of each unit that is masked, NULL where the event does not have it; absent for those that are shown. */
type Commitments = { readonly [path in MaskableUnit as `c_${path}`]?: Buffer | null };

/** What a reader selects of an event. Times come as microseconds since 1970: JavaScript's Date stops at milliseconds. */
export interface StoredRow extends Commitments {
	tenant_id: TenantId;
	occurred_us: string;
	id: EventId;
	recorded_us: string;
	action: string;
	leaf_hash: Buffer;
	/** Of all units the event has, masked ones too. */
	salts: Buffer;
	u_actor: string | null;
	u_changes: string | null;
	u_context: string | null;
	u_description: string | null;
	u_facts: string;
	u_metadata: string | null;
	u_reason: string | null;
	u_resources: string | null;
}

/** The select list that gives a StoredRow: of a masked unit the commitment instead of the text, which stays where it is. */
export function storedColumns(masked: ReadonlySet<MaskableUnit>): string[] {
	const ofUnits = UNIT_PATHS.flatMap((path) =>
		path !== "facts" && masked.has(path) ? [`NULL AS u_${path}`, `${commitmentSql(path)} AS c_${path}`] : [`u_${path}`],
	);
	return [
		"tenant_id",
		`${microsSql("occurred_at")} AS occurred_us`,
		"id",
		`${microsSql("recorded_at")} AS recorded_us`,
		"action",
		"leaf_hash",
		"salts",
		...ofUnits,
	];
}

/** `commit` of integrity/entry.ts in SQL; NULL if the event does not have the unit. */
function commitmentSql(path: UnitPath): string {
	const before = UNIT_PATHS.slice(0, UNIT_PATHS.indexOf(path)).map((each) => `u_${each}`);
	const salt = `substr(salts, 1 + ${SALT_BYTES} * num_nonnulls(${before.join(", ") || "NULL"}), ${SALT_BYTES})`;
	const length = Buffer.from([path.length]).toString("hex");
	return `CASE WHEN u_${path} IS NOT NULL THEN sha256('AL1u'::bytea || ${salt}
		|| '\\x${length}'::bytea || '${path}'::bytea || convert_to(u_${path}, 'UTF8')) END`;
}

/** A timestamp column as microseconds since 1970, exactly; NULL for infinity, which nobody but a tamperer stores. */
export function microsSql(column: string): string {
	return `CASE WHEN isfinite(${column}) THEN (extract(epoch from ${column}) * 1000000)::bigint END`;
}

export function microsOfColumn(value: string): Micros {
	return BigInt(value) as Micros;
}

/** What `auditlog verify` reads of a row: everything. */
export interface VerifiedRow extends Omit<StoredRow, "occurred_us" | "recorded_us">, Projection {
	occurred_us: string | null;
	recorded_us: string | null;
	kind: EventKind;
	hv: number;
	timed: boolean;
	content_mac: Buffer | null;
	batch_id: string;
	ord: number;
}

export const VERIFIED_COLUMNS = storedColumns(NOTHING_MASKED).concat(
	["category", "severity", "outcome", "actor_type", "source", "actor_id", "actor_email"],
	["resource_type", "resource_id", "request_id", "trace_id"],
	["kind", "hv", "timed", "content_mac", "batch_id", "ord"],
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
