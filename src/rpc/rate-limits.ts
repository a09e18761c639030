import { boundTenant, maySee, type Principal } from "../auth/principal.ts";
import { AuditError } from "../errors.ts";
import type { EventInput, TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { type Call, principalOf } from "./call.ts";
import { Rate } from "./rate.ts";
import type { RateSettings } from "./rate-settings.ts";

interface Charge {
	readonly rate: Rate;
	readonly holder: string;
	readonly amount: number;
	/** What is too much, for people and for programs. */
	readonly of: string;
	readonly reason: string;
}

/**
 * What one key, and all keys of a tenant together, may ask of this process in a second. A call is let in whole, and
 * charged to all it concerns, or refused whole, and charged to nobody: nothing of it has been done by then.
 */
export class RateLimits {
	readonly #keyEvents: Rate;
	readonly #keyBytes: Rate;
	readonly #tenantEvents: Rate;
	readonly #tenantBytes: Rate;
	readonly #keyReads: Rate;

	constructor(settings: RateSettings) {
		this.#keyEvents = new Rate(settings.keyEvents);
		this.#keyBytes = new Rate(settings.keyBytes);
		this.#tenantEvents = new Rate(settings.tenantEvents);
		this.#tenantBytes = new Rate(settings.tenantBytes);
		this.#keyReads = new Rate(settings.keyReads);
	}

	/**
	 * Before anything is done with events, good or bad: those that will be refused cost as much. A batch's bytes are
	 * shared by its tenants according to their events; a tenant that the caller may not write to pays nothing. A batch that is
	 * too large is charged as the largest: a few bytes an event must not keep a tenant's other keys out for hours.
	 *
	 * @throws AuditError `resource_exhausted`, with the time after which there is enough
	 */
	async admitEvents(brought: readonly EventInput[], call: Pick<Call, "principal" | "bodyBytes">): Promise<void> {
		const events = brought.slice(0, LIMITS.batchEvents);
		const principal = principalOf(call);
		const bytes = call.bodyBytes ?? 0;
		const key = { holder: principal.id, whose: "this key", reason: "KEY" };
		const charges = [...chargesOf(key, this.#keyEvents, this.#keyBytes, events.length, bytes)];
		for (const [tenantId, count] of eventsByTenant(events, principal)) {
			const tenant = { holder: tenantId, whose: "this tenant", reason: "TENANT" };
			const share = (bytes * count) / events.length;
			charges.push(...chargesOf(tenant, this.#tenantEvents, this.#tenantBytes, count, share));
		}
		await admit(charges);
	}

	/** @throws AuditError `resource_exhausted`, with the time after which there is enough */
	async admitRead({ id }: Principal): Promise<void> {
		const reason = "KEY_READS_PER_SECOND";
		await admit([{ rate: this.#keyReads, holder: id, amount: 1, of: "reads of this key are", reason }]);
	}
}

function chargesOf(
	{ holder, whose, reason }: { holder: string; whose: string; reason: string },
	events: Rate,
	bytes: Rate,
	count: number,
	size: number,
): Charge[] {
	return [
		{ rate: events, holder, amount: count, of: `events of ${whose} are`, reason: `${reason}_EVENTS_PER_SECOND` },
		{ rate: bytes, holder, amount: size, of: `bytes of ${whose} are`, reason: `${reason}_BYTES_PER_SECOND` },
	];
}

/**
 * A refusal costs us as much as a small write, and whoever heeds none could keep the one thread that serves everybody
 * busy with them. So it is held back: who waits for it sends nothing meanwhile, and has but so many calls at one time.
 */
export const HELD_BACK_MS = 500;

/** All of them, or none and the error that says when. */
async function admit(charges: readonly Charge[]): Promise<void> {
	const now = performance.now();
	let longest: { charge: Charge; waitMs: number } | undefined;
	for (const charge of charges) {
		const waitMs = charge.rate.waitFor(charge.holder, charge.amount, now);
		if (waitMs > (longest?.waitMs ?? 0)) longest = { charge, waitMs };
	}
	if (longest) {
		await new Promise((resolve) => setTimeout(resolve, HELD_BACK_MS));
		throw tooMany(longest.charge, Math.max(0, longest.waitMs - HELD_BACK_MS));
	}
	for (const { rate, holder, amount } of charges) rate.take(holder, amount, now);
}

function tooMany({ rate, of, reason }: Charge, waitMs: number): AuditError {
	const message = `${of} limited to ${rate.perSecond} a second: nothing was done; try again`;
	return new AuditError("resource_exhausted", message, { reason, retryAfterMs: Math.ceil(waitMs) });
}

function eventsByTenant(events: readonly EventInput[], principal: Principal): Map<TenantId, number> {
	const counts = new Map<TenantId, number>();
	for (const { tenantId: named } of events) {
		const tenantId = named === "" ? boundTenant(principal) : (named as TenantId);
		if (tenantId && maySee(principal, tenantId)) counts.set(tenantId, (counts.get(tenantId) ?? 0) + 1);
	}
	return counts;
}
