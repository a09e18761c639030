import { createSecretKey } from "node:crypto";
import { fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { admit } from "../../src/event/admit.ts";
import type { EventId, Micros, TenantId } from "../../src/event/event.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { encodeEntry, leafHash } from "../../src/integrity/entry.ts";
import { entryOf } from "../../src/storage/row.ts";
import { renderEvent } from "../../src/storage/render-event.ts";

/** One event shape ever accepted, and everything that followed from it. Never edited: see README.md. */
export interface CorpusCase {
	/** The protobuf bytes as received, base64. */
	input: string;
	/** The service's clock, and who recorded it. */
	now: string;
	door: "rpc" | "nats";
	key_id: string | null;
	/** Given, so that the hash can be repeated: base64, 16 bytes per unit. */
	salts: string;
	tenant_id: string;
	id: string;
	occurred_us: string;
	units: Record<string, string>;
	/** The event as readers get it, in protobuf's JSON. */
	rendering: Rendering;
	leaf_hash: string;
}

export type Rendering = Readonly<Record<string, unknown>> & { readonly integrity: Readonly<Record<string, unknown>> };

/** What this version of the code makes of a case's input. */
export function replay(given: Pick<CorpusCase, "input" | "now" | "door" | "key_id" | "salts">): CorpusCase {
	const input = fromBinary(EventSchema, Buffer.from(given.input, "base64"));
	const salts = Buffer.from(given.salts, "base64");
	const result = admit(input, {
		now: BigInt(given.now) as Micros,
		recordedBy: { door: given.door, keyId: given.key_id ?? undefined },
		boundTenant: "corpus" as TenantId,
		idSecret: createSecretKey(new Uint8Array(32)),
	});
	if (!result.ok) throw new Error(JSON.stringify(result.violations));
	const { event } = result;
	const leaf = Buffer.from(leafHash(encodeEntry(entryOf(event, salts))));
	const rendered: Event = renderEvent(
{
		tenant_id: event.tenantId as TenantId,
		occurred_us: String(event.occurredAt),
		id: event.id as EventId,
		recorded_us: String(event.recordedAt),
		action: event.action,
		leaf_hash: leaf,
		salts,
		u_actor: event.units.actor ?? null,
		u_changes: event.units.changes ?? null,
		u_context: event.units.context ?? null,
		u_description: event.units.description ?? null,
		u_facts: event.units.facts,
		u_metadata: event.units.metadata ?? null,
		u_reason: event.units.reason ?? null,
		u_resources: event.units.resources ?? null,
	}, NOTHING_MASKED);
	return {
		...given,
		tenant_id: event.tenantId,
		id: event.id,
		occurred_us: String(event.occurredAt),
		units: event.units,
		rendering: toJson(EventSchema, rendered) as Rendering,
		leaf_hash: leaf.toString("hex"),
	};
}

export function encodeInput(event: Event): string {
	return Buffer.from(toBinary(EventSchema, event)).toString("base64");
}
