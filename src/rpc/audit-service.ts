import { create } from "@bufbuild/protobuf";
import { authorize } from "../auth/permissions.ts";
import { boundTenant, maySee, type Principal } from "../auth/principal.ts";
import { actorOf } from "../auth/principal-actor.ts";
import { AuditError, invalidArgument } from "../errors.ts";
import { isTenantId } from "../event/admit.ts";
import type { EventInput, TenantId } from "../event/event.ts";
import { elementPath, pathWithin } from "../event/field-path.ts";
import { microsOf, rfc3339, timestampOf } from "../event/time.ts";
import type { Exporter } from "../export/export.ts";
import {
	type AggregateRequest,
	type AggregateResponse,
	AuditService,
	BatchWriteMode,
	type BatchWriteRequest,
	type BatchWriteResponse,
	BatchWriteResponseSchema,
	type BatchWriteResult,
	BatchWriteResultSchema,
	ExportFormat,
	type ExportRequest,
	type ExportResponse,
	type GetEventRequest,
	type GetEventResponse,
	GetEventResponseSchema,
	type QueryRequest,
	type QueryResponse,
	QueryResponseSchema,
	type WriteEventRequest,
	type WriteEventResponse,
	WriteEventResponseSchema,
} from "../gen/audit/v1/audit_service_pb.ts";
import type { Event } from "../gen/audit/v1/event_pb.ts";
import type { Ingest, ItemResult, Writer } from "../ingest/ingest.ts";
import type { Counts } from "../query/aggregate.ts";
import type { Asked } from "../query/asked.ts";
import type { Query } from "../query/query.ts";
import { tellsOfReadsOnly } from "../query/read-event.ts";
import type { ReadLog, Recorded } from "../query/read-log.ts";
import type { Walk } from "../query/walk.ts";
import type { DisabledTenants } from "../storage/disabled-tenants.ts";
import type { Telemetry } from "../telemetry.ts";
import { type Call, principalOf } from "./call.ts";
import { refuseDisabled } from "./disabled.ts";
import { Quota } from "./quota.ts";
import type { RateLimits } from "./rate-limits.ts";
import { type Answers, readBy } from "./recorded-reads.ts";

export interface AuditServiceOptions {
	readonly ingest: Pick<Ingest, "accept">;
	readonly telemetry: Telemetry;
	readonly query: Pick<Query, "search" | "get">;
	readonly counts: Pick<Counts, "aggregate">;
	readonly exporter: Pick<Exporter<Walk>, "open">;
	readonly reads: Pick<ReadLog, "recorded" | "recordedStream">;
	readonly disabled: Pick<DisabledTenants, "has">;
}

/**
 * audit.v1.AuditService: may this key do that, to which tenant; then convert, call, convert. The same for every protocol,
 * REST included.
 */
export class AuditServiceCalls implements Answers<typeof AuditService> {
	readonly #ingest: AuditServiceOptions["ingest"];
	readonly #query: AuditServiceOptions["query"];
	readonly #counts: AuditServiceOptions["counts"];
	readonly #reads: AuditServiceOptions["reads"];
	readonly #telemetry: Telemetry;
	readonly #disabled: AuditServiceOptions["disabled"];
	readonly #exporter: AuditServiceOptions["exporter"];
	readonly #exports = new Quota(MOST_EXPORTS, MOST_EXPORTS_OF_ONE);
	readonly #counting = new Quota(MOST_COUNTS, MOST_COUNTS_OF_ONE);

	readonly #rates: RateLimits;

	constructor({ ingest, query, counts, exporter, reads, telemetry, disabled }: AuditServiceOptions, rates: RateLimits) {
		this.#rates = rates;
		this.#ingest = ingest;
		this.#telemetry = telemetry;
		this.#query = query;
		this.#counts = counts;
		this.#exporter = exporter;
		this.#reads = reads;
		this.#disabled = disabled;
	}

	/** @param at where the event is in what the caller sent: violations' fields begin there */
	async writeEvent(request: WriteEventRequest, call: Call, at = "event"): Promise<WriteEventResponse> {
		const principal = principalOf(call);
		const events = request.event ? [request.event] : [];
		authorize(principal, "writeEvent", tenantsOf(events));
		if (!request.event) throw invalidArgument([{ field: "event", message: "is required" }]);
		await this.#rates.admitEvents(events, call);
		const [result] = await this.#ingest.accept(events, writerOf(principal, call), { atomic: false });
		if (!result?.ok) throw errorWithin(at, result?.error);
		call.batchIds.add(result.event.batchId);
		return written(result);
	}

	async batchWrite(request: BatchWriteRequest, call: Call): Promise<BatchWriteResponse> {
		const principal = principalOf(call);
		call.events = request.events.length;
		authorize(principal, "batchWrite", tenantsOf(request.events));
		if (!MODES.has(request.mode)) refuse([{ field: "mode", message: MODES_ALLOWED }]);
		await this.#rates.admitEvents(request.events, call);
		const atomic = request.mode === BatchWriteMode.ATOMIC;
		const results = await this.#ingest.accept(request.events, writerOf(principal, call), { atomic });
		for (const result of results) {
			if (result.ok) call.batchIds.add(result.event.batchId);
			else this.#telemetry.count("audit_events_rejected_total", { door: "rpc", reason: result.error.reason });
		}
		return create(BatchWriteResponseSchema, { results: results.map(batchResult) });
	}

	async query(request: QueryRequest, call: Call): Promise<Recorded<QueryResponse>> {
		const principal = principalOf(call);
		const tenantId = tenantOf(request, principal);
		authorize(principal, "query", tenantId ? [tenantId] : []);
		await this.#rates.admitRead(principal);
		const readable = await refuseDisabled(this.#disabled, principal, required(tenantId));
		const { asked, events, nextPageToken } = await this.#query.search(request, readable, principal.maskedUnits);
		const read = { ...readBy(call, AuditService.method.query, asked), tenantId: readable };
		const reads = tellsOfReadsOnly(events, request.actions) ? [] : [{ ...read, returned: events.length }];
		return this.#reads.recorded(reads, create(QueryResponseSchema, { events, nextPageToken }));
	}

	async getEvent(request: GetEventRequest, call: Call): Promise<Recorded<GetEventResponse>> {
		const principal = principalOf(call);
		const tenantId = tenantOf(request, principal);
		authorize(principal, "getEvent", tenantId ? [tenantId] : []);
		await this.#rates.admitRead(principal);
		const readable = await refuseDisabled(this.#disabled, principal, required(tenantId));
		const event = await this.#query.get(request, readable, principal.maskedUnits);
		const read = { ...readBy(call, AuditService.method.getEvent, askedForOne(event)), tenantId: readable };
		const shows = { type: "event", id: event.id };
		const reads = tellsOfReadsOnly([event], []) ? [] : [{ ...read, shows, returned: 1 }];
		return this.#reads.recorded(reads, create(GetEventResponseSchema, { event }));
	}

	/** @param at where the search is in what the caller sent: the fields of its violations begin there */
	async aggregate(request: AggregateRequest, call: Call, at = "query"): Promise<Recorded<AggregateResponse>> {
		const principal = principalOf(call);
		const { tenantId: named = "", actions = [] } = request.query ?? {};
		const tenantId = tenantOf({ tenantId: named }, principal, at);
		authorize(principal, "aggregate", tenantId ? [tenantId] : []);
		await this.#rates.admitRead(principal);
		const readable = await refuseDisabled(this.#disabled, principal, required(tenantId, at));
		if (!(await this.#counting.takeLater(readable, 1, AbortSignal.timeout(COUNTS_WAIT_MS)))) throw tooManyCounts();
		// Until it is done, not until its caller leaves: the database counts on.
		const { asked, answer } = await this.#counts
			.aggregate(request, readable, principal.maskedUnits, at)
			.finally(() => this.#counting.giveBack(readable, 1));
		// It shows no events, and says something of all of them.
		const read = { ...readBy(call, AuditService.method.aggregate, asked), tenantId: readable, returned: 0 };
		return this.#reads.recorded(tellsOfReadsOnly([], actions) ? [] : [read], answer);
	}

	/**
	 * The stream is recorded before it is given, and ends when its tenant is disabled.
	 *
	 * @param signal aborted when the call is over
	 */
	async export(
		request: ExportRequest,
		call: Call,
		signal: AbortSignal,
	): Promise<Recorded<AsyncIterable<ExportResponse>>> {
		const principal = principalOf(call);
		const tenantId = tenantOf({ tenantId: request.query?.tenantId ?? "" }, principal, "query");
		authorize(principal, "export", tenantId ? [tenantId] : []);
		await this.#rates.admitRead(principal);
		const readable = await refuseDisabled(this.#disabled, principal, required(tenantId, "query"));
		const places = request.format === ExportFormat.PARQUET ? PLACES_OF_PARQUET : 1;
		if (!this.#exports.take(principal.id, places)) throw tooManyExports();
		const giveBack = () => this.#exports.giveBack(principal.id, places);
		if (signal.aborted) giveBack();
		else signal.addEventListener("abort", giveBack, { once: true });
		const opened = await this.#exporter.open(request, readable, principal.maskedUnits);
		const { told } = opened;
		const read = { ...readBy(call, AuditService.method.export, opened.source.asked), tenantId: readable, told };
		const whileOpen = this.#whileOpen(opened.messages(signal), principal, readable);
		return this.#reads.recordedStream(read, whileOpen, ({ part }) =>
			part.case === "start" ? undefined : Number(part.value?.events ?? 0) - Number(told.resumed_after ?? 0),
		);
	}

	async *#whileOpen<T>(messages: AsyncIterable<T>, principal: Principal, tenantId: TenantId): AsyncGenerator<T> {
		for await (const message of messages) {
			await refuseDisabled(this.#disabled, principal, tenantId);
			yield message;
		}
	}
}

/** Of all, and of one tenant: each may take a connection for seconds, and with the exports that read they leave searches some. */
const MOST_COUNTS = 3;
const MOST_COUNTS_OF_ONE = 2;
/** With what a count takes, well within a caller's deadline of 30 s. */
const COUNTS_WAIT_MS = 10_000;

function tooManyCounts(): AuditError {
	return new AuditError("resource_exhausted", "as many counts are going on as may be; try again in some seconds", {
		reason: "TOO_MANY_COUNTS",
		retryAfterMs: 5_000,
	});
}

/** Each has a few MiB of events in its hands; */
const MOST_EXPORTS = 32;
const MOST_EXPORTS_OF_ONE = 8;
/** of Parquet, with its thread and a row group, some 45. */
const PLACES_OF_PARQUET = 4;

function tooManyExports(): AuditError {
	return new AuditError("resource_exhausted", "as many exports are open as may be; try again when one has ended", {
		reason: "TOO_MANY_EXPORTS",
		retryAfterMs: 30_000,
	});
}

/** An item's error with its violations' fields as paths from the top of the request. */
function errorWithin(at: string, error: AuditError | undefined): AuditError {
	if (!error) throw new Error("an event has neither a receipt nor an error");
	const { code, reason, retryAfterMs, cause } = error;
	if (error.violations.length === 0) return error;
	const violations = error.violations.map(({ field, message }) => ({
		field: pathWithin(at, field) || "event",
		message,
	}));
	const { message } = invalidArgument(violations);
	return new AuditError(code, message, {
		reason,
		violations,
		cause,
		...(retryAfterMs !== undefined && { retryAfterMs }),
	});
}

const MODES: ReadonlySet<BatchWriteMode> = new Set(Object.values(BatchWriteMode));
const MODES_ALLOWED = "must be BATCH_WRITE_MODE_PARTIAL or BATCH_WRITE_MODE_ATOMIC";

function tenantsOf(events: readonly EventInput[]): Set<TenantId> {
	return new Set(events.filter(({ tenantId }) => tenantId !== "").map(({ tenantId }) => tenantId as TenantId));
}

function refuse(violations: { field: string; message: string }[]): void {
	if (violations.length > 0) throw invalidArgument(violations, "INVALID_REQUEST");
}

function writerOf(principal: Principal, { trace }: Call): Writer {
	return {
		door: "rpc",
		keyId: principal.keyId,
		boundTenant: boundTenant(principal),
		mayWrite: (tenantId) => maySee(principal, tenantId),
		actor: actorOf(principal),
		trace,
	};
}

/** The tenant a read is about; undefined if neither the request nor the key names one. */
function tenantOf(request: { tenantId: string }, principal: Principal, at = ""): TenantId | undefined {
	if (request.tenantId === "") return boundTenant(principal);
	if (isTenantId(request.tenantId)) return request.tenantId;
	throw invalidArgument(
		[{ field: pathWithin(at, "tenant_id"), message: "must be 1 to 128 of A-Z a-z 0-9 . _ : -" }],
		"INVALID_REQUEST",
	);
}

function required(tenantId: TenantId | undefined, at = ""): TenantId {
	if (tenantId) return tenantId;
	const message = "is required unless the key is bound to one tenant";
	throw invalidArgument([{ field: pathWithin(at, "tenant_id"), message }], "INVALID_REQUEST");
}

/** The event's own key: with or without its time it is the same that was asked for. */
function askedForOne({ id, occurredAt }: Event): Asked {
	const stated = { id, ...(occurredAt && { occurred_at: rfc3339(microsOf(occurredAt)) }) };
	return { stated, canonical: JSON.stringify(stated) };
}

function written({ event, duplicate }: Extract<ItemResult, { ok: true }>): WriteEventResponse {
	return create(WriteEventResponseSchema, {
		eventId: event.id,
		occurredAt: timestampOf(event.occurredAt),
		recordedAt: timestampOf(event.recordedAt),
		duplicate,
		receipt: { batchId: event.batchId, leafHash: event.leafHash },
	});
}

function batchResult(result: ItemResult, i: number): BatchWriteResult {
	if (result.ok) return create(BatchWriteResultSchema, { result: { case: "written", value: written(result) } });
	const { code, reason, message, violations } = errorWithin(elementPath("events", i), result.error);
	return create(BatchWriteResultSchema, { result: { case: "error", value: { code, reason, message, violations } } });
}
