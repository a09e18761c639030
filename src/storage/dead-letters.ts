import type pg from "pg";
import type { Violation } from "../errors.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { rfc3339 } from "../event/time.ts";

/** Which event of which message: what a dead letter is known by. */
export interface LetterKey {
	/** When the stream was created: numbers of messages start again with a new stream. */
	readonly streamCreated: Date;
	readonly streamSeq: bigint;
	/** Which event of the message, from 0. */
	readonly position: number;
}

/** Where an event of a message comes from: enough to find the message again, and to judge it without. */
export interface Origin extends LetterKey {
	readonly subject: string;
	readonly headers: Record<string, string[]>;
	/** The original bytes of this one event; of the whole message if it could not be taken apart. */
	readonly body: Uint8Array;
	/** Whether the body is one event of a batch: what the headers say of a body holds for the message. */
	readonly isPart: boolean;
	readonly publishedAt: Micros;
	/** The tenant the subject names, if it names one. Of a dead letter else the one its event names, if that can be read. */
	readonly tenantId: TenantId | undefined;
}

/** Why something could not become an event. */
export interface Refusal {
	/** A stable UPPER_SNAKE word. */
	readonly reason: string;
	readonly message: string;
	readonly violations: readonly Violation[];
}

/** A message, or one event of it, that could not become an event: kept with its reason until somebody deals with it. */
export interface DeadLetter extends Origin, Refusal {}

/**
 * Stores dead letters in the transaction of the flush they belong to. One that is already stored is left as it is.
 *
 * @returns those that were not stored before
 */
export async function insertDeadLetters(
	client: pg.PoolClient,
	letters: readonly DeadLetter[],
): Promise<Set<DeadLetter>> {
	if (letters.length === 0) return new Set();
	const column = <T>(value: (letter: DeadLetter) => T) => letters.map(value);
	const { rows } = await client.query<{ stream_created: Date; stream_seq: string; position: number }>(
		`INSERT INTO audit.dead_letters (stream_created, stream_seq, position, tenant_id, subject, reason, message,
		                                 violations, headers, body, published_at, is_part)
		 SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[],
		                      $8::jsonb[], $9::jsonb[], $10::bytea[], $11::timestamptz[], $12::boolean[])
		 ON CONFLICT (stream_created, stream_seq, position) DO NOTHING
		 RETURNING stream_created, stream_seq, position`,
		[
			column(({ streamCreated }) => streamCreated),
			column(({ streamSeq }) => streamSeq),
			column(({ position }) => position),
			column(({ tenantId }) => tenantId ?? null),
			column(({ subject }) => subject),
			column(({ reason }) => reason),
			column(({ message }) => message),
			column(({ violations }) => JSON.stringify(violations)),
			column(({ headers }) => JSON.stringify(headers)),
			column(({ body }) => Buffer.from(body)),
			column(({ publishedAt }) => rfc3339(publishedAt)),
			column(({ isPart }) => isPart),
		],
	);
	const inserted = new Set(rows.map((row) => `${row.stream_created.getTime()}/${row.stream_seq}/${row.position}`));
	return new Set(
		letters.filter(({ streamCreated, streamSeq, position }) =>
			inserted.has(`${streamCreated.getTime()}/${streamSeq}/${position}`),
		),
	);
}

/**
 * A letter's id, for people and programs: `<stream's creation in ms, base 36>-<sequence number>-<position>`. Nothing is
 * stored for it: it is the key, written differently.
 */
export function letterId({ streamCreated, streamSeq, position }: LetterKey): string {
	return `${streamCreated.getTime().toString(36)}-${streamSeq}-${position}`;
}

/** @returns undefined if the text is no letter's id */
export function parseLetterId(id: string): LetterKey | undefined {
	const [, created = "", seq = "", position = ""] = /^([0-9a-z]{1,9})-(\d{1,19})-(\d{1,9})$/.exec(id) ?? [];
	if (created === "" || BigInt(seq) > 2n ** 63n - 1n) return undefined;
	const key = {
		streamCreated: new Date(Number.parseInt(created, 36)),
		streamSeq: BigInt(seq),
		position: Number(position),
	};
	// One id for each letter: other spellings, such as leading zeros, are none.
	return letterId(key) === id ? key : undefined;
}
