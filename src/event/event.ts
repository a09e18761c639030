import type { Event } from "../gen/audit/v1/event_pb.ts";

/** 1 to 128 of `[A-Za-z0-9._:-]`, checked. */
export type TenantId = string & { readonly brand: "TenantId" };
/** A UUID in its 36-character lower-case form, checked. */
export type EventId = string & { readonly brand: "EventId" };
/** Microseconds since 1970-01-01T00:00:00Z. */
export type Micros = bigint & { readonly brand: "Micros" };

/** What came over the wire: nothing about it has been checked. */
export type EventInput = Event;

/** The way an event came in. `service`: made by the service itself. */
export type Door = "rpc" | "nats" | "service";

/** 1: an event somebody wrote. 2: one the service made. */
export type EventKind = 1 | 2;

/**
 * The smallest erasable parts of an event, in the order of their paths' bytes: the order they are hashed in. `facts` is
 * always present and never personal.
 */
export const UNIT_PATHS = [
	"actor",
	"changes",
	"context",
	"description",
	"facts",
	"metadata",
	"reason",
	"resources",
] as const;
export type UnitPath = (typeof UNIT_PATHS)[number];
/** The exact RFC 8785 text of each unit that is present. */
export type Units = { facts: string } & { [path in UnitPath]?: string };

/** An event that passed admission: complete, canonical, immutable. Only `admit` makes one. */
export interface AuditEvent {
	readonly tenantId: TenantId;
	readonly id: EventId;
	readonly occurredAt: Micros;
	readonly recordedAt: Micros;
	readonly kind: EventKind;
	readonly action: string;
	readonly units: Units;
	/** `units.facts` without what differs between a retry and the first try (who recorded it, by which door). */
	readonly statedFacts: string;
	/** UTF-8 bytes of all units as stated by the caller: what the size limit counts. */
	readonly bytes: number;
}

/** What the store knows of a committed event: the receipt. */
export interface AppendedEvent {
	readonly tenantId: TenantId;
	readonly id: EventId;
	readonly occurredAt: Micros;
	readonly recordedAt: Micros;
	readonly batchId: bigint;
	readonly leafHash: Uint8Array;
}
