import { createHmac, type KeyObject, randomFillSync } from "node:crypto";
import type { DescEnum } from "@bufbuild/protobuf";
import type { AuditEvent, UnitPath, Units } from "../event/event.ts";
import { UNIT_PATHS } from "../event/event.ts";
import { isTimed } from "../event/time.ts";
import { ActorTypeSchema, CategorySchema, OutcomeSchema, SeveritySchema } from "../gen/audit/v1/event_pb.ts";
import { commit, type Entry, encodeEntry, leafHash, SALT_BYTES } from "../integrity/entry.ts";

/** The version of the hashed form this code writes. */
export const HASH_VERSION = 1;

/** An event with its hashes, ready to be stored. */
export interface EventRow {
	readonly event: AuditEvent;
	readonly projection: Projection;
	/** 16 random bytes per unit present, in the order of their paths. */
	readonly salts: Buffer;
	readonly leafHash: Uint8Array;
	readonly contentMac: Uint8Array;
}

/** Salts and hashes an event. Done once per event: a batch that is tried again keeps its leaves. */
export function prepareRow(event: AuditEvent, macKey: KeyObject): EventRow {
	const count = UNIT_PATHS.reduce((n, path) => (event.units[path] === undefined ? n : n + 1), 0);
	const salts = randomSalts(count);
	return {
		event,
		projection: project(event.units),
		salts,
		leafHash: leafHash(encodeEntry(entryOf(event, salts))),
		contentMac: contentMac(event, macKey),
	};
}

/** What is hashed of an event: the part of a row that `auditlog verify` computes again. */
export type Hashed = Pick<AuditEvent, "id" | "occurredAt" | "recordedAt" | "kind" | "action" | "units">;

export function entryOf(event: Hashed, salts: Uint8Array): Entry {
	let n = 0;
	return {
		kind: event.kind,
		eventId: Buffer.from(event.id.replaceAll("-", ""), "hex"),
		recordedAt: event.recordedAt,
		occurredAt: event.occurredAt,
		action: event.action,
		units: presentUnits(event.units).map(([path, value]) => {
			const salt = salts.subarray(n * SALT_BYTES, (n + 1) * SALT_BYTES);
			n += 1;
			return { path, erasable: path !== "facts", commitment: commit(path, salt, value) };
		}),
	};
}

function presentUnits(units: Units): [UnitPath, string][] {
	return UNIT_PATHS.flatMap((path) => {
		const value = units[path];
		return value === undefined ? [] : [[path, value] as [UnitPath, string]];
	});
}

/**
 * HMAC-SHA256 over the key and everything the caller stated: equal for a retry, different for another event under the
 * same key. Leaf hashes cannot tell: their salts differ. Who recorded the event is left out, so that a retry by another
 * key or door is still a retry.
 */
export function contentMac(event: Omit<AuditEvent, "recordedAt" | "bytes">, key: KeyObject): Uint8Array {
	const mac = createHmac("sha256", key);
	mac.update(`AL1m\0${event.tenantId}\0${event.id}\0${event.occurredAt}\0${event.kind}\0${event.action}`);
	for (const [path, value] of presentUnits({ ...event.units, facts: event.statedFacts }))
		mac.update(`\0${path}\0${value}`);
	return mac.digest();
}

/** The filter columns, derived from the units: what a search matches is what was hashed. */
export interface Projection {
	category: number;
	severity: number;
	outcome: number;
	actor_type: number;
	source: string | null;
	actor_id: string | null;
	actor_email: string | null;
	resource_type: string | null;
	resource_id: string | null;
	request_id: string | null;
	trace_id: string | null;
}

export function project(units: Units): Projection {
	const facts = JSON.parse(units.facts) as Fields;
	const actor = member(units.actor, "actor");
	const resource = member(units.resources, "primary_resource");
	const context = units.context === undefined ? {} : (JSON.parse(units.context) as Fields);
	return {
		category: enumNumber(CategorySchema, facts.category),
		severity: enumNumber(SeveritySchema, facts.severity),
		outcome: enumNumber(OutcomeSchema, facts.outcome),
		actor_type: enumNumber(ActorTypeSchema, actor.type),
		source: column(facts.source),
		actor_id: column(actor.id),
		actor_email: column(actor.email),
		resource_type: column(resource.type),
		resource_id: column(resource.id),
		request_id: column(context.request_id),
		trace_id: column(context.trace_id),
	};
}

type Fields = Record<string, unknown>;

function member(unit: string | undefined, name: string): Fields {
	if (unit === undefined) return {};
	return ((JSON.parse(unit) as Fields)[name] ?? {}) as Fields;
}

function column(value: unknown): string | null {
	return typeof value === "string" ? value : null;
}

function enumNumber(schema: DescEnum, value: unknown): number {
	if (typeof value === "number") return value;
	return schema.values.find((candidate) => candidate.name === value)?.number ?? 0;
}

/** Everything of a row but where it stands in its batch, by column. */
export function columnsOf(row: EventRow) {
	const { event } = row;
	return {
		tenant_id: event.tenantId,
		occurred_at: event.occurredAt,
		id: event.id,
		recorded_at: event.recordedAt,
		kind: event.kind,
		hv: HASH_VERSION,
		timed: isTimed(event.id, event.occurredAt),
		action: event.action,
		...row.projection,
		leaf_hash: row.leafHash,
		content_mac: row.contentMac,
		salts: row.salts,
		u_actor: event.units.actor ?? null,
		u_changes: event.units.changes ?? null,
		u_context: event.units.context ?? null,
		u_description: event.units.description ?? null,
		u_facts: event.units.facts,
		u_metadata: event.units.metadata ?? null,
		u_reason: event.units.reason ?? null,
		u_resources: event.units.resources ?? null,
	};
}

// Random bytes are drawn in large pieces: one call per event would cost ten times as much.
const POOL_BYTES = 65_536;
let pool = Buffer.alloc(0);

function randomSalts(count: number): Buffer {
	const size = count * SALT_BYTES;
	if (pool.length < size) pool = randomFillSync(Buffer.allocUnsafe(POOL_BYTES));
	const salts = pool.subarray(0, size);
	pool = pool.subarray(size);
	return salts;
}
