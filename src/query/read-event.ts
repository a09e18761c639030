import type { MessageInitShape } from "@bufbuild/protobuf";
import { actorOf } from "../auth/principal-actor.ts";
import type { EventId, Micros, TenantId } from "../event/event.ts";
import { rfc3339, timestampOf } from "../event/time.ts";
import { Category, type EventSchema } from "../gen/audit/v1/event_pb.ts";
import type { Told } from "../storage/service-log.ts";
import type { Read, ReadBegun } from "./read-log.ts";

/** The events that tell who read a log. Searches leave them out unless they are asked for. */
export const READ_ACTIONS = ["audit.read", "audit.read.summary"] as const;

/**
 * Whether an answer tells nothing but who read the log: to record that would make the next thing to be seen, for ever. One
 * without events tells that there are none of those asked for.
 *
 * @param actions what the search asked for
 */
export function tellsOfReadsOnly(events: readonly { readonly action: string }[], actions: readonly string[]): boolean {
	if (events.length === 0) return actions.length > 0 && actions.every((name) => name.startsWith(READ_ACTIONS[0]));
	return events.every(({ action }) => (READ_ACTIONS as readonly string[]).includes(action));
}

/**
 * That somebody read a tenant's log. A filter at every limit has 200 KiB, and the rules for its texts are those for events':
 * the event is always admitted.
 */
export function readEvent(read: ReadBegun, id: EventId, occurredAt: Micros): Told {
	const { tenantId, method, protocol, asked, shows, returned, told, requestId } = read;
	return {
		tenantId,
		event: {
			...whoAndWhat(read),
			id,
			occurredAt: timestampOf(occurredAt),
			action: READ_ACTIONS[0],
			relatedResources: shows ? [shows] : [],
			context: { ipAddress: read.address, requestId },
			metadata: { method, protocol, filter: asked.stated, ...told, ...(returned !== undefined && { returned }) },
		},
	};
}

/** The reads of one window, or of the rest of it. */
export interface Tally {
	/** Who reads: of its first read. */
	readonly of: Omit<Read, "asked" | "returned" | "told">;
	/** The `audit.read` that was committed before the first answer. */
	readonly readId: EventId;
	reads: number;
	returned: number;
	readonly firstAt: Micros;
	lastAt: Micros;
}

/** How often it was read, and how much. */
export function summaryEvent({ of, readId, reads, returned, firstAt, lastAt }: Tally): Told {
	const times = { first_read_at: rfc3339(firstAt), last_read_at: rfc3339(lastAt) };
	return {
		tenantId: of.tenantId,
		event: {
			...whoAndWhat(of),
			action: READ_ACTIONS[1],
			relatedResources: [{ type: "event", id: readId }],
			context: { ipAddress: of.address },
			metadata: { method: of.method, reads, returned, ...times },
		},
	};
}

function whoAndWhat({ principal, tenantId }: { principal: Read["principal"]; tenantId: TenantId }) {
	return {
		category: Category.DATA,
		actor: actorOf(principal),
		primaryResource: { type: "audit_log", id: tenantId },
	} satisfies MessageInitShape<typeof EventSchema>;
}
