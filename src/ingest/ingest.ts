import type { KeyObject } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { actorOf } from "../auth/principal-actor.ts";
import { AuditError, invalidArgument, tenantDisabled, tenantNotFound } from "../errors.ts";
import { type Admission, type Admitted, admit, isTenantId } from "../event/admit.ts";
import type { AppendedEvent, Door, EventInput, TenantId } from "../event/event.ts";
import { elementPath, pathWithin } from "../event/field-path.ts";
import { LIMITS } from "../event/limits.ts";
import { microsOfDate, rfc3339 } from "../event/time.ts";
import type { Logger } from "../logger.ts";
import { type Appended, refusalOf, type Write } from "../storage/append.ts";
import type { DeadLetter, Origin, Refusal } from "../storage/dead-letters.ts";
import type { Outcome } from "../storage/insert.ts";
import { type EventRow, prepareRow } from "../storage/row.ts";
import type { TenantOrigin } from "../storage/tenant-events.ts";
import type { Telemetry } from "../telemetry.ts";
import { inSpan, type Trace } from "../trace.ts";
import { Batcher } from "./batcher.ts";
import { type Flush, flushThrough } from "./flush.ts";
import { endMessageTraces, startMessageTraces } from "./message-traces.ts";

/** Who writes, and through which door, as far as the write path needs to know. */
export interface Writer {
	readonly door: Door;
	/** The API key, if it came with one. */
	readonly keyId: string | undefined;
	/** The tenant an event need not name. */
	readonly boundTenant: TenantId | undefined;
	readonly mayWrite: (tenantId: TenantId) => boolean;
	/** Who that is, as an event's actor: told of where a tenant is made by being written to. */
	readonly actor?: ReturnType<typeof actorOf>;
	/** Of the call they come with. */
	readonly trace?: Trace;
}

/** What became of one event of a call. Violations' fields are relative to the event. */
export type ItemResult =
	| { readonly ok: true; readonly event: AppendedEvent; readonly duplicate: boolean }
	| { readonly ok: false; readonly error: AuditError };

/** One event of a message, or why the message could not be taken apart. */
export interface MessageItem {
	readonly origin: Origin;
	readonly input: EventInput | undefined;
	/** Set when `input` is not: the item becomes a dead letter. */
	readonly refusal?: Refusal;
}

/** One event of a message: a row ready to be stored, or why there is none. */
export type PreparedMessage =
	| { readonly origin: Origin; readonly row: EventRow; readonly refusal?: undefined }
	| { readonly origin: Origin; readonly row?: undefined; readonly refusal: Refusal };

export interface IngestOptions {
	readonly append: (writes: readonly Write[]) => Promise<PromiseSettledResult<Appended>[]>;
	readonly tenants: {
		exists(tenantId: TenantId): Promise<boolean>;
		ensure(tenantId: TenantId, name: string, origin: TenantOrigin): Promise<void>;
		isDisabled(tenantId: TenantId): Promise<boolean>;
	};
	/** Whether the first write to an unknown tenant creates it. */
	readonly autoCreateTenants: boolean;
	readonly idSecret: KeyObject;
	readonly contentMacKey: KeyObject;
	readonly telemetry: Telemetry;
	readonly logger: Logger;
}

/**
 * The write path: both doors come in here, with events and who brings them, and get an answer only after COMMIT.
 *
 * admit (is it an event? whose?) → hash → batch with what else is waiting → append → answer
 */
export class Ingest {
	readonly #options: IngestOptions;
	readonly #flush: Flush;
	readonly #batcher: Batcher;

	constructor(options: IngestOptions) {
		this.#options = options;
		this.#flush = flushThrough(options);
		this.#batcher = new Batcher({
			flush: (writes, traces) => this.#flush("rpc", writes, traces),
			flushEvents: 5_000,
			flushBytes: 8 * 1024 * 1024,
			waitingEvents: 20_000,
			waitingBytes: 64 * 1024 * 1024,
		});
	}

	/** What calls have brought and is waiting for its turn to be stored. */
	get waiting(): Batcher["waiting"] {
		return this.#batcher.waiting;
	}

	/**
	 * The synchronous door: stores the events of one call in one transaction and says what became of each.
	 *
	 * @throws AuditError for the whole call: `invalid_argument` (bad count; with `atomic`, any bad event),
	 * `already_exists` and `not_found` (with `atomic`), `resource_exhausted`, `unavailable`
	 */
	async accept(inputs: readonly EventInput[], writer: Writer, { atomic }: { atomic: boolean }): Promise<ItemResult[]> {
		if (inputs.length === 0 || inputs.length > LIMITS.batchEvents) {
			const message = `must hold 1 to ${LIMITS.batchEvents} events`;
			throw invalidArgument([{ field: "events", message }], "BATCH_SIZE");
		}
		const admission = this.#admission(writer);
		const prepared = await inSpan("admit", writer.trace, () =>
			this.#prepareAll(
				inputs.map((input) => ({ input })),
				() => admission,
				{
					mayWrite: writer.mayWrite,
					originOf: () => ({ madeBy: "first write", actor: writer.actor }),
					// All or none: nothing is done, not even a tenant made, before every event is admitted.
					...(atomic && { onAdmitted: refuseAll }),
				},
			),
		);
		const refusal = prepared.find((item) => item instanceof AuditError);
		if (atomic && refusal) throw refusal;
		const rows = prepared.filter((item): item is EventRow => !(item instanceof AuditError));
		const store = () => this.#batcher.add({ rows, atomic }, writer.trace);
		const { outcomes } = rows.length > 0 ? await inSpan("commit", writer.trace, store) : { outcomes: [] };
		const byRow = new Map(rows.map((row, i) => [row, outcomes[i] as Outcome]));
		const results = prepared.map((item) => (item instanceof AuditError ? refused(item) : resultOf(byRow.get(item))));
		if (atomic) throwFirstRefusal(results);
		this.#count("rpc", outcomes);
		return results;
	}

	/**
	 * The NATS door: resolves once every item is committed, as an event or as a dead letter, in one transaction. Rejects
	 * when nothing is known to be committed: the same items can be given again.
	 */
	async acceptMessages(
		items: readonly MessageItem[],
	): Promise<{ stored: number; duplicate: number; deadLetters: readonly DeadLetter[] }> {
		const deadLetters: DeadLetter[] = [];
		const origins: Origin[] = [];
		const rows: EventRow[] = [];
		for (const { origin, row, refusal } of await this.prepareMessages(items)) {
			if (row) {
				rows.push(row);
				origins.push(origin);
			} else deadLetters.push({ ...origin, ...refusal });
		}
		if (rows.length === 0 && deadLetters.length === 0) return { stored: 0, duplicate: 0, deadLetters };
		const traces = startMessageTraces(items);
		const [settled] = await this.#flush("nats", [{ rows, origins, deadLetters, atomic: false }], traces);
		endMessageTraces(traces, settled);
		if (settled?.status !== "fulfilled") throw settled?.reason;
		const counts = this.#count("nats", settled.value.outcomes);
		for (const { reason } of settled.value.newDeadLetters) {
			this.#options.telemetry.count("audit_events_rejected_total", { door: "nats", reason });
			this.#options.telemetry.count("audit_dead_letters_total", { reason });
		}
		return { ...counts, deadLetters: settled.value.deadLetters };
	}

	/** Counts what a committed write came to. */
	#count(door: "rpc" | "nats", outcomes: readonly Outcome[]): { stored: number; duplicate: number } {
		let [stored, duplicate] = [0, 0];
		for (const { status } of outcomes) {
			if (status === "stored") stored += 1;
			else if (status === "duplicate") duplicate += 1;
		}
		const { telemetry } = this.#options;
		telemetry.count("audit_events_stored_total", { door }, stored);
		telemetry.count("audit_events_duplicate_total", { door }, duplicate);
		telemetry.count("audit_events_accepted_total", { door }, stored + duplicate);
		return { stored, duplicate };
	}

	/**
	 * Judges the events of messages: each is ready to be stored, or refused. The only way from a message to a row, be it new
	 * or a dead letter's.
	 *
	 * @param options.mayWrite default: every tenant, as NATS has decided who may publish where
	 * @param options.dryRun nothing is going to be stored: no tenant is made
	 */
	async prepareMessages(
		items: readonly MessageItem[],
		{ mayWrite = () => true, dryRun = false }: { mayWrite?: Writer["mayWrite"]; dryRun?: boolean } = {},
	): Promise<PreparedMessage[]> {
		const candidates: { origin: Origin; input: EventInput }[] = [];
		const judged = items.map(({ origin, input, refusal }) => {
			if (!input) return { origin, refusal: refusal ?? UNDECODED };
			const letterOrigin = origin.tenantId ? origin : { ...origin, tenantId: tenantNamedBy(input) };
			if (origin.tenantId && input.tenantId !== "" && input.tenantId !== origin.tenantId) {
				return { origin: letterOrigin, refusal: TENANT_MISMATCH };
			}
			return { origin: letterOrigin, candidate: candidates.push({ origin, input }) - 1 };
		});
		const prepared = await this.#prepareAll(candidates, (i) => this.#messageAdmission(candidates[i]?.origin), {
			mayWrite,
			originOf: (i) => ({ madeBy: "first message", subject: candidates[i]?.origin.subject ?? "" }),
			createTenants: !dryRun,
		});
		return judged.map(({ origin, refusal, candidate }) => {
			if (candidate === undefined) return { origin, refusal };
			const item = prepared[candidate] as Prepared;
			if (!(item instanceof AuditError)) return { origin, row: item };
			return { origin, refusal: { reason: item.reason, message: item.message, violations: item.violations } };
		});
	}

	/** Refuses new writes and waits until the accepted ones are decided. */
	async close(): Promise<void> {
		await this.#batcher.close();
	}

	/** Admits and hashes each input; in its place, what is wrong with it. */
	async #prepareAll(
		items: readonly { input: EventInput }[],
		admissionOf: (i: number) => Admission,
		{ onAdmitted, ...rules }: TenantRules & { onAdmitted?: (admitted: readonly Admitted[]) => void },
	): Promise<Prepared[]> {
		const admitted: Admitted[] = [];
		for (const [i, { input }] of items.entries()) {
			admitted.push(admit(input, admissionOf(i)));
			await breathe(i);
		}
		onAdmitted?.(admitted);
		const refusals = await this.#refusedTenants(admitted, rules);
		const prepared: Prepared[] = [];
		for (const [i, item] of admitted.entries()) {
			const refusal = item.ok ? refusals.get(item.event.tenantId) : invalidArgument(item.violations);
			if (refusal) prepared.push(refusal);
			else if (item.ok) prepared.push(prepareRow(item.event, this.#options.contentMacKey));
			await breathe(i);
		}
		return prepared;
	}

	/**
	 * Of the tenants of these events, those that get none, and why. The one place that every event on its way in passes,
	 * whatever the door. A tenant that may be made is made here.
	 */
	async #refusedTenants(admitted: readonly Admitted[], rules: TenantRules): Promise<Map<TenantId, AuditError>> {
		const firsts = new Map<TenantId, number>();
		for (const [i, item] of admitted.entries()) {
			if (item.ok && !firsts.has(item.event.tenantId)) firsts.set(item.event.tenantId, i);
		}
		const refusals = new Map<TenantId, AuditError>();
		for (const [tenantId, i] of firsts) {
			const refusal = await this.#refuse(tenantId, i, rules);
			if (refusal) refusals.set(tenantId, refusal);
		}
		return refusals;
	}

	/** What a caller may not see does not exist for it: whether it is disabled comes last. */
	async #refuse(tenantId: TenantId, i: number, rules: TenantRules): Promise<AuditError | undefined> {
		const { tenants, autoCreateTenants } = this.#options;
		if (!rules.mayWrite(tenantId)) return tenantNotFound();
		if (!autoCreateTenants) {
			if (!(await tenants.exists(tenantId))) return tenantNotFound();
		} else if (rules.createTenants ?? true) await tenants.ensure(tenantId, tenantId, rules.originOf(i));
		return (await tenants.isDisabled(tenantId)) ? tenantDisabled() : undefined;
	}

	#admission({ door, keyId, boundTenant }: Pick<Writer, "door" | "keyId" | "boundTenant">): Admission {
		const now = microsOfDate(new Date());
		return { now, recordedBy: { door, keyId }, boundTenant, idSecret: this.#options.idSecret };
	}

	#messageAdmission(origin: Origin | undefined): Admission {
		const admission = this.#admission({ door: "nats", keyId: undefined, boundTenant: origin?.tenantId });
		if (!origin) return admission;
		const { streamCreated, streamSeq, position, publishedAt } = origin;
		const name = `nats/${streamCreated.toISOString()}/${streamSeq}/${position}/${rfc3339(publishedAt)}`;
		return { ...admission, place: { name, publishedAt } };
	}
}

/** Which tenants events may go to. */
interface TenantRules {
	readonly mayWrite: Writer["mayWrite"];
	/** How a tenant came to be, if the i-th event makes it. */
	readonly originOf: (i: number) => TenantOrigin;
	/** Default: yes, where the first event of a tenant may make it. */
	readonly createTenants?: boolean;
}

/** An event ready to be stored, or why it is refused. */
type Prepared = EventRow | AuditError;

/** The tenant an event names, if it can be one: from the bare subject, which is for trusted producers, it is believed. */
function tenantNamedBy({ tenantId }: EventInput): TenantId | undefined {
	return isTenantId(tenantId) ? tenantId : undefined;
}

/** A flush of thousands of events must not keep other callers waiting while it is hashed. */
async function breathe(i: number): Promise<void> {
	if (i % 200 === 199) await setImmediate();
}

const TENANT_MISMATCH: Refusal = {
	reason: "TENANT_MISMATCH",
	message: "the event names another tenant than its subject",
	violations: [{ field: "tenant_id", message: "must be the subject's tenant, or absent" }],
};
const UNDECODED: Refusal = { reason: "UNDECODABLE", message: "the message holds no event", violations: [] };

/** Every violation of every event in one error. */
function refuseAll(admitted: readonly Admitted[]): void {
	const violations = admitted.flatMap((item, i) =>
		item.ok
			? []
			: item.violations.map(({ field, message }) => ({ field: pathWithin(elementPath("events", i), field), message })),
	);
	if (violations.length > 0) throw invalidArgument(violations);
}

function throwFirstRefusal(results: readonly ItemResult[]): void {
	for (const [i, result] of results.entries()) {
		if (result.ok) continue;
		const { code, reason, message, cause } = result.error;
		throw new AuditError(code, `events[${i}]: ${message}`, { reason, cause });
	}
}

function refused(error: AuditError): ItemResult {
	return { ok: false, error };
}

function resultOf(outcome: Outcome | undefined): ItemResult {
	if (outcome?.status === "stored" || outcome?.status === "duplicate") {
		return { ok: true, event: outcome.event, duplicate: outcome.status === "duplicate" };
	}
	if (!outcome) throw new Error("a committed write has no outcome for one of its events");
	const { reason, message } = refusalOf(outcome);
	const code = outcome.status === "conflict" ? "already_exists" : "internal";
	return refused(new AuditError(code, message, { reason }));
}
