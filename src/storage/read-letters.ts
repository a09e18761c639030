import type { Violation } from "../errors.ts";
import type { EventId, Micros, TenantId } from "../event/event.ts";
import { type Database, inLetters, type Scope } from "./db.ts";
import type { DeadLetter, LetterKey } from "./dead-letters.ts";
import { microsOfColumn, microsSql } from "./stored-row.ts";

/** What became of a letter. The last two are final. */
export type LetterState = "OPEN" | "REDRIVEN" | "DISCARDED";

/** An event that a letter became. */
export interface RedrivenEvent {
	readonly tenantId: TenantId;
	readonly eventId: EventId;
	readonly occurredAt: Micros;
	/** Whether it was in the log already. */
	readonly duplicate: boolean;
}

/** What somebody did with a letter. */
export interface LetterAction {
	readonly state: Exclude<LetterState, "OPEN">;
	readonly actedAt: Micros;
	readonly keyId: string;
	/** Why it was discarded. */
	readonly reason: string | undefined;
	readonly events: readonly RedrivenEvent[];
}

/** A letter as it is stored, whole, and what was done with it. */
export interface StoredLetter extends DeadLetter {
	readonly receivedAt: Micros;
	readonly action: LetterAction | undefined;
}

interface LetterRow {
	stream_created: Date;
	stream_seq: string;
	position: number;
	tenant_id: TenantId | null;
	subject: string;
	reason: string;
	message: string;
	violations: Violation[];
	headers: Record<string, string[]>;
	body: Buffer;
	is_part: boolean;
	published_us: string;
	received_us: string;
	state: LetterAction["state"] | null;
	acted_us: string;
	key_id: string;
	why: string | null;
	events: StoredEvent[];
}

/** How `dead_letter_actions.events` spells an event. */
interface StoredEvent {
	tenant_id: TenantId;
	event_id: EventId;
	/** Microseconds since 1970, as text: JSON numbers end before. */
	occurred_us: string;
	duplicate: boolean;
}

/** Letters stored before `is_part` was there: these reasons are about messages as a whole. */
const OF_WHOLE_MESSAGES =
	"'EMPTY_BATCH', 'BATCH_TOO_LARGE', 'UNDECODABLE_HEADERS', 'UNKNOWN_SUBJECT', 'UNKNOWN_AUDIT_TYPE'";

/** Reads one letter. @returns undefined if there is none in the scope. @throws AuditError unavailable */
export async function findLetter(db: Database, scope: Scope, key: LetterKey): Promise<StoredLetter | undefined> {
	const { rows } = await inLetters(db, scope, (client) =>
		client.query<LetterRow>(
			`SELECT l.stream_created, l.stream_seq, l.position, l.tenant_id, l.subject, l.reason, l.message, l.violations,
			        l.headers, l.body, coalesce(l.is_part, l.reason NOT IN (${OF_WHOLE_MESSAGES})) AS is_part,
			        ${microsSql("l.published_at")} AS published_us, ${microsSql("l.received_at")} AS received_us,
			        a.state, ${microsSql("a.acted_at")} AS acted_us, a.key_id, a.reason AS why, a.events
			 FROM audit.dead_letters l
			 LEFT JOIN audit.dead_letter_actions a USING (stream_created, stream_seq, position)
			 WHERE l.stream_created = $1 AND l.stream_seq = $2 AND l.position = $3`,
			[key.streamCreated, key.streamSeq, key.position],
		),
	);
	const [row] = rows;
	return row && letterOf(row);
}

/** Which of the keys are no letters of the scope's, by their place in the list. @throws AuditError unavailable */
export async function findMissing(db: Database, scope: Scope, keys: readonly LetterKey[]): Promise<number[]> {
	const { rows } = await inLetters(db, scope, (client) =>
		client.query<{ place: string }>(
			`SELECT k.place FROM unnest($1::timestamptz[], $2::bigint[], $3::integer[])
			        WITH ORDINALITY AS k (stream_created, stream_seq, position, place)
			 WHERE NOT EXISTS (SELECT FROM audit.dead_letters l
			                   WHERE l.stream_created = k.stream_created AND l.stream_seq = k.stream_seq
			                     AND l.position = k.position)
			 ORDER BY k.place`,
			[
				keys.map(({ streamCreated }) => streamCreated),
				keys.map(({ streamSeq }) => streamSeq),
				keys.map(({ position }) => position),
			],
		),
	);
	return rows.map(({ place }) => Number(place) - 1);
}

function letterOf(row: LetterRow): StoredLetter {
	return {
		streamCreated: row.stream_created,
		streamSeq: BigInt(row.stream_seq),
		position: row.position,
		tenantId: row.tenant_id ?? undefined,
		subject: row.subject,
		reason: row.reason,
		message: row.message,
		violations: row.violations,
		headers: row.headers,
		body: row.body,
		isPart: row.is_part,
		publishedAt: microsOfColumn(row.published_us),
		receivedAt: microsOfColumn(row.received_us),
		action: row.state === null ? undefined : { ...actionOf(row), state: row.state },
	};
}

function actionOf({ acted_us, key_id, why, events }: LetterRow): Omit<LetterAction, "state"> {
	return {
		actedAt: microsOfColumn(acted_us),
		keyId: key_id,
		reason: why ?? undefined,
		events: events.map(redrivenEvent),
	};
}

/** The JSON form of the events a letter became. */
export function storedEvents(events: readonly RedrivenEvent[]): string {
	const stored = events.map(
		({ tenantId, eventId, occurredAt, duplicate }): StoredEvent => ({
			tenant_id: tenantId,
			event_id: eventId,
			occurred_us: String(occurredAt),
			duplicate,
		}),
	);
	return JSON.stringify(stored);
}

/** An event out of that JSON. */
export function redrivenEvent({ tenant_id, event_id, occurred_us, duplicate }: StoredEvent): RedrivenEvent {
	return { tenantId: tenant_id, eventId: event_id, occurredAt: microsOfColumn(occurred_us), duplicate };
}
