import type { MaskableUnit } from "../auth/principal.ts";
import type { UnitPath } from "../event/event.ts";
import type { EventCells } from "./event-cells.ts";

/** What a column holds, by its type; nothing (undefined) where the event does not have it. */
export interface CellTypes {
	text: string;
	/** A UUID in its 36-character form. */
	uuid: string;
	/** Lower-case hexadecimal digits. */
	hex: string;
	/** RFC 8785 text, the same for the same value. */
	json: string;
	/** At most 2^32. */
	integer: number;
	/** Decimal digits of a 64-bit integer. */
	bigint: string;
	/** Microseconds since 1970: within ±2^53. */
	timestamp: number;
}
export type CellType = keyof CellTypes;

interface ColumnOf<Type extends CellType> {
	readonly type: Type;
	/** The unit it is taken from: empty for whoever may not see that. The header is the entry's own, and never masked. */
	readonly unit: UnitPath | "header";
	/** For docs/export.md. */
	readonly meaning: string;
	/** Not among the usual columns: there where it is asked for. */
	readonly isExtra?: true;
	readonly value: (event: EventCells) => CellTypes[Type] | undefined;
}
type AnyColumn = { [Type in CellType]: ColumnOf<Type> }[CellType];

/**
 * Every column there is, in the usual order: the one definition for all formats, and for docs/export.md. Names, types and what
 * they mean are kept for ever; new columns come last. Together they hold everything that an event has.
 */
const TABLE = {
	id: { type: "uuid", unit: "header", meaning: "the event's id", value: (e) => e.row.id },
	tenant_id: { type: "text", unit: "header", meaning: "whose log it is", value: (e) => e.row.tenant_id },
	occurred_at: {
		type: "timestamp",
		unit: "header",
		meaning: "when it happened, by the caller's clock",
		value: (e) => Number(e.row.occurred_us),
	},
	recorded_at: {
		type: "timestamp",
		unit: "header",
		meaning: "when the service admitted it, by its own clock",
		value: (e) => Number(e.row.recorded_us),
	},
	action: { type: "text", unit: "header", meaning: "what was done", value: (e) => e.row.action },
	category: {
		type: "text",
		unit: "facts",
		meaning: "its name in the API; a number that has no name as that number",
		value: (e) => named(e.facts.category),
	},
	severity: { type: "text", unit: "facts", meaning: "likewise", value: (e) => named(e.facts.severity) },
	outcome: { type: "text", unit: "facts", meaning: "likewise", value: (e) => named(e.facts.outcome) },
	outcome_reason: {
		type: "text",
		unit: "reason",
		meaning: "why it ended so",
		value: (e) => e.reason.outcome_reason,
	},
	source: { type: "text", unit: "facts", meaning: "the channel it came through", value: (e) => e.facts.source },
	actor_type: {
		type: "text",
		unit: "actor",
		meaning: "what the actor is: its name in the API, or its number",
		value: (e) => named(e.actor.type),
	},
	actor_id: { type: "text", unit: "actor", meaning: "who did it", value: (e) => e.actor.id },
	actor_display_name: {
		type: "text",
		unit: "actor",
		meaning: "the actor's name at that time",
		value: (e) => e.actor.display_name,
	},
	actor_email: {
		type: "text",
		unit: "actor",
		meaning: "the actor's e-mail address at that time",
		value: (e) => e.actor.email,
	},
	on_behalf_of: {
		type: "json",
		unit: "actor",
		meaning: "for whom, nearest first: a list of `{display_name, email, id, type}`",
		value: (e) => e.onBehalfOf,
	},
	resource_type: {
		type: "text",
		unit: "resources",
		meaning: "what it was done to: the primary resource",
		value: (e) => e.resource.type,
	},
	resource_id: { type: "text", unit: "resources", meaning: "its id", value: (e) => e.resource.id },
	resource_display_name: {
		type: "text",
		unit: "resources",
		meaning: "its name at that time",
		value: (e) => e.resource.display_name,
	},
	resource_role: { type: "text", unit: "resources", meaning: "its role", value: (e) => e.resource.role },
	related_resources: {
		type: "json",
		unit: "resources",
		meaning: "what else was concerned: a list of `{display_name, id, role, type}`",
		value: (e) => e.relatedResources,
	},
	ip_address: { type: "text", unit: "context", meaning: "whence", value: (e) => e.context.ip_address },
	user_agent: { type: "text", unit: "context", meaning: "the client program", value: (e) => e.context.user_agent },
	request_id: { type: "text", unit: "context", meaning: "within which request", value: (e) => e.context.request_id },
	trace_id: { type: "text", unit: "context", meaning: "within which trace", value: (e) => e.context.trace_id },
	session_id: { type: "text", unit: "context", meaning: "within which session", value: (e) => e.context.session_id },
	location: {
		type: "text",
		unit: "context",
		meaning: "a place, as the caller names it",
		value: (e) => e.context.location,
	},
	changes: {
		type: "json",
		unit: "changes",
		meaning: "what changed: `{changed_fields, new_value, old_value}`",
		value: (e) => e.row.u_changes ?? undefined,
	},
	description: { type: "text", unit: "description", meaning: "the message for people", value: (e) => e.description },
	reason: { type: "text", unit: "reason", meaning: "why it was done", value: (e) => e.reason.reason },
	metadata: {
		type: "json",
		unit: "metadata",
		meaning: "whatever else the caller had to say: an object",
		value: (e) => e.row.u_metadata ?? undefined,
	},
	schema_version: {
		type: "integer",
		unit: "facts",
		meaning: "the version of the caller's schema for this action",
		value: (e) => e.facts.schema_version,
	},
	retention_class: {
		type: "text",
		unit: "facts",
		meaning: "how long it is to be kept",
		value: (e) => e.facts.retention_class,
	},
	recorded_by_door: {
		type: "text",
		unit: "facts",
		meaning: "`rpc`, `nats` or `service`: where it was handed in",
		value: (e) => e.facts.recorded_by?.door,
	},
	recorded_by_key_id: {
		type: "text",
		unit: "facts",
		meaning: "the public id of the credential it came with",
		value: (e) => e.facts.recorded_by?.key_id,
	},
	leaf_hash: { type: "hex", unit: "header", meaning: "SHA-256 of the event's entry", value: (e) => e.row.leaf_hex },
	masked_units: {
		type: "json",
		unit: "header",
		meaning:
			"what the event has and this key may not see: the commitment of each such unit, by its name, in hexadecimal",
		value: (e) => e.maskedUnits,
	},
	salts: {
		type: "json",
		unit: "header",
		meaning: "the salt of each unit that the event has and this key may see, by its name, in hexadecimal",
		isExtra: true,
		value: (e) => e.salts,
	},
	batch_id: {
		type: "bigint",
		unit: "header",
		meaning: "the transaction that stored it, as receipts and `auditlog verify` name it",
		isExtra: true,
		value: (e) => e.row.batch_id,
	},
} as const satisfies Readonly<Record<string, AnyColumn>>;

export type ColumnName = keyof typeof TABLE;
export type Column = AnyColumn & { readonly name: ColumnName };

export const COLUMNS: readonly Column[] = Object.entries(TABLE).map(
	([name, column]) => ({ name, ...column }) as Column,
);

export const USUAL_COLUMNS: readonly Column[] = COLUMNS.filter(({ isExtra }) => !isExtra);

export function columnNamed(name: string): Column | undefined {
	return COLUMNS.find((column) => column.name === name);
}

export function isMasked({ unit }: Column, masked: ReadonlySet<MaskableUnit>): boolean {
	return unit !== "header" && unit !== "facts" && masked.has(unit);
}

/** Enums are hashed by name, or by number where they have none. */
function named(value: string | number | undefined): string | undefined {
	return value === undefined ? undefined : String(value);
}
