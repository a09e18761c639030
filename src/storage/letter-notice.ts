import type { KeyObject } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { type ActorSchema, Category } from "../gen/audit/v1/event_pb.ts";
import { letterId } from "./dead-letters.ts";
import type { StoredLetter } from "./read-letters.ts";
import type { EventRow } from "./row.ts";
import { serviceEvent } from "./service-event.ts";

/** Who makes an end of a letter, as its row and as the event tell it. */
export interface LetterClerk {
	/** The credential. */
	readonly keyId: string;
	readonly actor: MessageInitShape<typeof ActorSchema>;
}

/**
 * The events that tell of a redriven letter: `audit.dead_letters.redriven`, one for each tenant that gets events by it, with
 * the clerk as actor, the letter as primary resource, and the tenant's events (the first 32) as related ones.
 *
 * @param rows the events the letter becomes
 */
export function redrivenNotices(
	letter: StoredLetter,
	clerk: LetterClerk,
	rows: readonly EventRow[],
	macKey: KeyObject,
): EventRow[] {
	return [...Map.groupBy(rows, ({ event }) => event.tenantId)].map(([tenantId, ofTenant]) =>
		serviceEvent(
			tenantId,
			{
				...common(letter, clerk),
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
	clerk: LetterClerk,
	discarded: { readonly reason: string; readonly tenantId: TenantId },
	macKey: KeyObject,
): EventRow {
	const init = {
		...common(letter, clerk),
		action: "audit.dead_letters.discarded",
		reason: discarded.reason,
		metadata: { refused_for: letter.reason },
	};
	return serviceEvent(discarded.tenantId, init, macKey);
}

function common(letter: StoredLetter, { actor }: LetterClerk) {
	return {
		category: Category.ADMIN,
		actor,
		primaryResource: { type: "dead_letter", id: letterId(letter) },
	};
}
