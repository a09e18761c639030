import type { KeyObject } from "node:crypto";
import { create, type JsonObject, toJson } from "@bufbuild/protobuf";
import { AuditError, invalidArgument, type Violation } from "../errors.ts";
import type { EventId, Micros, TenantId } from "../event/event.ts";
import { microsOfDate, rfc3339, timestampOf } from "../event/time.ts";
import {
	type DeadLetter,
	type DeadLetterFilter,
	DeadLetterFilterSchema,
	DeadLetterSchema,
	DeadLetterState,
	type GetDeadLetterResponse,
	GetDeadLetterResponseSchema,
	type ListDeadLettersRequest,
} from "../gen/audit/v1/dead_letter_service_pb.ts";
import { type Database, inLetters, type Scope } from "../storage/db.ts";
import { type LetterKey, letterId } from "../storage/dead-letters.ts";
import { findLetter, type LetterState, type RedrivenEvent, type StoredLetter } from "../storage/read-letters.ts";
import { microsOfColumn, microsSql } from "../storage/stored-row.ts";
import { type Asked, canonicalText } from "./asked.ts";
import { checkTime } from "./filter.ts";
import { type Cursor, issuePageToken, openPageToken, type Paged } from "./page-token.ts";
import { rethrowTooSlow } from "./search.ts";

export interface LetterQueryOptions {
	readonly db: Database;
	/** `DerivedKeys.pageTokens`. */
	readonly pageTokenKey: KeyObject;
}

export interface LetterPage {
	readonly deadLetters: DeadLetter[];
	/** The letters' keys, in the same order. */
	readonly keys: LetterKey[];
	readonly nextPageToken: string;
	readonly asked: Asked;
}

/** Answers questions about dead letters. Whose is for access control to say, whatever the request says. */
export class LetterQuery {
	readonly #db: Database;
	readonly #pageTokenKey: KeyObject;

	constructor({ db, pageTokenKey }: LetterQueryOptions) {
		this.#db = db;
		this.#pageTokenKey = pageTokenKey;
	}

	/** One page. @throws AuditError invalid_argument with every violation, deadline_exceeded, unavailable */
	async list(request: Omit<ListDeadLettersRequest, "$typeName">, scope: Scope): Promise<LetterPage> {
		const { pageToken } = request;
		const filter = parseFilter(request, scope);
		const cursor = pageToken ? openPageToken(this.#pageTokenKey, filter, pageToken, Date.now()) : undefined;
		const rows = await this.#search(filter, scope, cursor && keyOfCursor(cursor));
		const page = rows.slice(0, filter.pageSize);
		const last = page.at(-1);
		const more = rows.length > page.length && last !== undefined;
		return {
			deadLetters: page.map(summaryOf),
			keys: page.map(keyOf),
			asked: askedOf(request.filter, filter),
			nextPageToken: more ? issuePageToken(this.#pageTokenKey, filter, cursorOf(keyOf(last)), Date.now()) : "",
		};
	}

	/** One letter, whole. @throws AuditError not_found, unavailable */
	async get(key: LetterKey, scope: Scope): Promise<GetDeadLetterResponse> {
		const letter = await findLetter(this.#db, scope, key);
		if (letter) return renderLetter(letter);
		throw new AuditError("not_found", "no such dead letter for this key", { reason: "DEAD_LETTER_NOT_FOUND" });
	}

	/**
	 * In the order of the primary key, which never changes for a letter: nothing is repeated or skipped between pages. One
	 * row more than the page holds tells whether there is another page.
	 */
	async #search(filter: LetterFilter, scope: Scope, after: LetterKey | undefined): Promise<SummaryRow[]> {
		const time = (micros: Micros | undefined) => (micros === undefined ? null : rfc3339(micros));
		const { rows } = await inLetters(this.#db, scope, (client) =>
			client
				.query<SummaryRow>(SEARCH, [
					filter.tenantId ?? null,
					filter.state ?? null,
					filter.reasons ?? null,
					time(filter.receivedAfter),
					time(filter.receivedBefore),
					after?.streamCreated ?? null,
					after?.streamSeq ?? null,
					after?.position ?? null,
					filter.pageSize + 1,
				])
				.catch(rethrowTooSlow),
		);
		return rows;
	}
}

const SEARCH = `
	SELECT l.stream_created, l.stream_seq, l.position, l.tenant_id, l.reason, left(l.message, 500) AS message,
	       left(l.subject, 500) AS subject, octet_length(l.body) AS body_size, coalesce(a.state, 'OPEN') AS state,
	       ${microsSql("l.published_at")} AS published_us, ${microsSql("l.received_at")} AS received_us
	FROM audit.dead_letters l
	LEFT JOIN audit.dead_letter_actions a USING (stream_created, stream_seq, position)
	WHERE ($1::text IS NULL OR l.tenant_id = $1)
	  AND ($2::text IS NULL OR coalesce(a.state, 'OPEN') = $2)
	  AND ($3::text[] IS NULL OR l.reason = ANY ($3))
	  AND ($4::timestamptz IS NULL OR l.received_at >= $4)
	  AND ($5::timestamptz IS NULL OR l.received_at < $5)
	  AND ($6::timestamptz IS NULL OR (l.stream_created, l.stream_seq, l.position) < ($6, $7::bigint, $8::integer))
	ORDER BY l.stream_created DESC, l.stream_seq DESC, l.position DESC
	LIMIT $9`;

/** A filter that passed all checks: what is absent was not given. Page tokens are bound to all of it but the page's size. */
interface LetterFilter extends Paged {
	/** Tells these tokens from those of searches for events. */
	readonly kind: "dead letters";
	/** Whose letters the key may see. */
	readonly scope: readonly TenantId[] | "all";
	readonly tenantId?: string;
	readonly state?: LetterState;
	readonly reasons?: readonly string[];
	readonly receivedAfter?: Micros;
	readonly receivedBefore?: Micros;
}

const PAGE_SIZE = { fallback: 50, most: 200 } as const;
const REASONS = 100;
const STATES: Readonly<Record<number, LetterState>> = {
	[DeadLetterState.OPEN]: "OPEN",
	[DeadLetterState.REDRIVEN]: "REDRIVEN",
	[DeadLetterState.DISCARDED]: "DISCARDED",
};

function parseFilter(
	{ filter, pageSize }: Pick<ListDeadLettersRequest, "filter" | "pageSize">,
	scope: Scope,
): LetterFilter {
	const violations: Violation[] = [];
	const refuse = (field: string, message: string) => void violations.push({ field, message });
	const { tenantId = "", state = DeadLetterState.UNSPECIFIED, reasons = [] } = filter ?? {};
	const receivedAfter = checkTime("filter.received_after", filter?.receivedAfter, refuse);
	const receivedBefore = checkTime("filter.received_before", filter?.receivedBefore, refuse);
	if (receivedAfter !== undefined && receivedBefore !== undefined && receivedBefore < receivedAfter) {
		refuse("filter.received_before", "must not be earlier than filter.received_after");
	}
	const wanted = STATES[state];
	if (state !== DeadLetterState.UNSPECIFIED && !wanted) refuse("filter.state", "is unknown to this version");
	if (reasons.length > REASONS) refuse("filter.reasons", `must not have more than ${REASONS} items`);
	else {
		reasons.forEach((reason, i) => {
			if (!/^[A-Z0-9_]{1,64}$/.test(reason)) refuse(`filter.reasons[${i}]`, "must be a word such as INVALID_EVENT");
		});
	}
	if (pageSize < 0) refuse("page_size", "must not be negative");
	if (violations.length > 0) throw invalidArgument(violations, "INVALID_QUERY");
	return {
		kind: "dead letters",
		scope: scope === "all" ? "all" : [...scope].sort(),
		pageSize: Math.min(pageSize || PAGE_SIZE.fallback, PAGE_SIZE.most),
		...(tenantId !== "" && { tenantId }),
		...(wanted && { state: wanted }),
		...(reasons.length > 0 && { reasons: [...new Set(reasons)].sort() }),
		...(receivedAfter !== undefined && { receivedAfter }),
		...(receivedBefore !== undefined && { receivedBefore }),
	};
}

function askedOf(given: DeadLetterFilter | undefined, filter: LetterFilter): Asked {
	const { kind: _kind, scope: _scope, tenantId: _tenant, pageSize: _size, ...canonical } = filter;
	const stated = create(DeadLetterFilterSchema);
	Object.assign(stated, given, { tenantId: "" });
	return {
		stated: toJson(DeadLetterFilterSchema, stated, { useProtoFieldName: true }) as JsonObject,
		canonical: canonicalText(canonical),
	};
}

/** A letter's key in the form that tokens carry: a time, and 16 bytes that hold number and position. */
function cursorOf({ streamCreated, streamSeq, position }: LetterKey): Cursor {
	const hex = streamSeq.toString(16).padStart(16, "0") + position.toString(16).padStart(16, "0");
	const id = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
	return { occurredAt: microsOfDate(streamCreated), id: id as EventId };
}

function keyOfCursor({ occurredAt, id }: Cursor): LetterKey {
	const hex = id.replaceAll("-", "");
	return {
		streamCreated: new Date(Number(occurredAt / 1000n)),
		streamSeq: BigInt(`0x${hex.slice(0, 16)}`),
		position: Number(`0x${hex.slice(16)}`),
	};
}

interface SummaryRow {
	stream_created: Date;
	stream_seq: string;
	position: number;
	tenant_id: string | null;
	reason: string;
	message: string;
	subject: string;
	body_size: number;
	state: LetterState;
	published_us: string;
	received_us: string;
}

function keyOf({ stream_created, stream_seq, position }: SummaryRow): LetterKey {
	return { streamCreated: stream_created, streamSeq: BigInt(stream_seq), position };
}

function summaryOf(row: SummaryRow): DeadLetter {
	return create(DeadLetterSchema, {
		...identify(keyOf(row)),
		tenantId: row.tenant_id ?? "",
		state: DeadLetterState[row.state],
		reason: row.reason,
		message: row.message,
		subject: row.subject,
		publishedAt: timestampOf(microsOfColumn(row.published_us)),
		receivedAt: timestampOf(microsOfColumn(row.received_us)),
		bodySize: row.body_size,
	});
}

function identify(key: LetterKey) {
	const { streamCreated, streamSeq, position } = key;
	return { id: letterId(key), streamCreated: timestampOf(microsOfDate(streamCreated)), streamSeq, position };
}

function renderLetter(letter: StoredLetter): GetDeadLetterResponse {
	const { action, tenantId, reason, message, subject, body } = letter;
	return create(GetDeadLetterResponseSchema, {
		deadLetter: {
			...identify(letter),
			tenantId: tenantId ?? "",
			state: DeadLetterState[action?.state ?? "OPEN"],
			reason,
			message,
			subject,
			publishedAt: timestampOf(letter.publishedAt),
			receivedAt: timestampOf(letter.receivedAt),
			bodySize: body.length,
		},
		body,
		headers: Object.entries(letter.headers).map(([name, values]) => ({ name, values })),
		violations: letter.violations.map(({ field, message: what }) => ({ field, message: what })),
		history: action
			? [
					{
						state: DeadLetterState[action.state],
						actedAt: timestampOf(action.actedAt),
						keyId: action.keyId,
						reason: action.reason ?? "",
						events: action.events.map(renderRedriven),
					},
				]
			: [],
	});
}

function renderRedriven({ tenantId, eventId, occurredAt, duplicate }: RedrivenEvent) {
	return { tenantId, eventId, occurredAt: timestampOf(occurredAt), duplicate };
}
