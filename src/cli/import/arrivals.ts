import { setTimeout as sleep } from "node:timers/promises";
import { type AuditClient, toAuditError } from "../../client/index.ts";
import type { TenantId } from "../../event/event.ts";
import type { Event } from "../../gen/audit/v1/event_pb.ts";

/** Messages are stored in about the order of publishing: watching the last ones bounds the memory. */
const WATCHED = 64;
const PATIENCE_MS = 30_000;
const PAUSE_MS = 100;

/** Watches the events that were published last until the service has stored them. */
export class Arrivals {
	#awaited: Event[] = [];

	/** A message is dealt with in one transaction: once one of its events is there, the others are, or are dead letters. */
	expect(event: Event | undefined): void {
		if (event) this.#awaited.push(event);
		if (this.#awaited.length > WATCHED) this.#awaited.shift();
	}

	/** Whether they all were there in time; undefined if the key may not look. */
	async wait(client: AuditClient, tenantId: TenantId): Promise<boolean | undefined> {
		const deadline = performance.now() + PATIENCE_MS;
		for (const event of this.#awaited) {
			for (let seen = await look(client, tenantId, event); seen !== true; seen = await look(client, tenantId, event)) {
				if (seen === undefined) return undefined;
				if (performance.now() > deadline) return false;
				await sleep(PAUSE_MS);
			}
		}
		return true;
	}
}

async function look(client: AuditClient, tenantId: TenantId, { id, occurredAt }: Event): Promise<boolean | undefined> {
	try {
		await client.getEvent({ tenantId, id, ...(occurredAt && { occurredAt }) });
		return true;
	} catch (error) {
		const { code } = toAuditError(error);
		if (code === "permission_denied" || code === "unauthenticated") return undefined;
		if (code === "not_found" || code === "unavailable") return false;
		throw error;
	}
}
