import type { KeyObject } from "node:crypto";
import type { TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { ActorType, Category } from "../gen/audit/v1/event_pb.ts";
import { letterId } from "./dead-letters.ts";
import type { StoredLetter } from "./read-letters.ts";
import type { EventRow } from "./row.ts";
import { serviceEvent } from "./service-event.ts";

/**
 * The events that tell of a redriven letter: `audit.dead_letters.redriven`, one for each tenant that gets events by it, with
 * the key as actor, the letter as primary resource, and the tenant's events (the first 32) as related ones.
 *
 * @param rows the events the letter becomes
 */
export function redrivenNotices(
	letter: StoredLetter,
	keyId: string,
	rows: readonly EventRow[],
	macKey: KeyObject,
): EventRow[] {
	return [...Map.groupBy(rows, ({ event }) => event.tenantId)].map(([tenantId, ofTenant]) =>
		serviceEvent(
			tenantId,
			{
				...common(letter, keyId),
				action: "audit.dead_letters.redriven",
				relatedResources: ofTenant
					.slice(0, LIMITS.relatedResources)
					.map(({ event }) => ({ type: "event", id: event.id, role: "result" })),
				metadata: { refused_for: letter.reason, events: ofTenant.length },
			},
			macKey,
		),
	);
}

/** The event that tells of a discarded letter: `audit.dead_letters.discarded`, with its reason. */
export function discardedNotice(
	letter: StoredLetter,
	keyId: string,
	discarded: { readonly reason: string; readonly tenantId: TenantId },
	macKey: KeyObject,
): EventRow {
	const init = {
		...common(letter, keyId),
		action: "audit.dead_letters.discarded",
		reason: discarded.reason,
		metadata: { refused_for: letter.reason },
	};
	return serviceEvent(discarded.tenantId, init, macKey);
}

function common(letter: StoredLetter, keyId: string) {
	return {
		category: Category.ADMIN,
		actor: { type: ActorType.API_KEY, id: keyId },
		primaryResource: { type: "dead_letter", id: letterId(letter) },
	};
}
