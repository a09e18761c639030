import { headers, type JetStreamClient, type MsgHdrs } from "nats";
import { rfc3339 } from "../event/time.ts";
import type { Logger } from "../logger.ts";
import type { ChainHead } from "../storage/batch.ts";
import type { DeadLetter } from "../storage/dead-letters.ts";
import {
	CHAIN_STREAM,
	CHAIN_SUBJECT,
	DEAD_LETTER_STREAM,
	DEAD_LETTER_SUBJECT,
	MAX_MESSAGE_BYTES,
} from "./nats-stream.ts";

const PUBLISH_TIMEOUT_MS = 5_000;
const COPIES_AT_ONCE = 256;
/** Room for our own headers beside a body of the largest size. */
const HEADER_BYTES = 16 * 1024;

/**
 * Publishes copies of dead letters, for those who want to be told. Best effort: the rows in PostgreSQL, committed
 * before, are the record. Never throws; gives up at the first that fails.
 */
export async function copyDeadLetters(
	js: JetStreamClient,
	letters: readonly DeadLetter[],
	logger: Logger,
): Promise<void> {
	for (let i = 0; i < letters.length; i += COPIES_AT_ONCE) {
		const copies = letters.slice(i, i + COPIES_AT_ONCE).map((letter) => copyDeadLetter(js, letter));
		const failed = (await Promise.allSettled(copies)).find((copy) => copy.status === "rejected");
		if (!failed) continue;
		logger.warn({ err: failed.reason, from: i, of: letters.length }, "dead letters were stored but not copied to NATS");
		return;
	}
}

async function copyDeadLetter(js: JetStreamClient, letter: DeadLetter): Promise<void> {
	const { streamCreated, streamSeq, position, body } = letter;
	const copied = body.length + HEADER_BYTES <= MAX_MESSAGE_BYTES;
	const fields: Record<string, string | undefined> = {
		"Audit-Reason": letter.reason,
		"Audit-Message": letter.message,
		"Audit-Subject": letter.subject,
		"Audit-Tenant": letter.tenantId,
		"Audit-Stream-Created": streamCreated.toISOString(),
		"Audit-Stream-Seq": streamSeq.toString(),
		"Audit-Position": String(position),
		"Audit-Published-At": rfc3339(letter.publishedAt),
		"Audit-Body": copied ? undefined : "left out: too large",
	};
	await js.publish(DEAD_LETTER_SUBJECT, copied ? body : "", {
		headers: toHeaders(fields),
		// The same letter copied again, after a crash between COMMIT and ack, is known by this for a while.
		msgID: `dlq:${streamCreated.getTime()}:${streamSeq}:${position}`,
		timeout: PUBLISH_TIMEOUT_MS,
		expect: { streamName: DEAD_LETTER_STREAM },
	});
}

function toHeaders(fields: Record<string, string | undefined>): MsgHdrs {
	const made = headers();
	for (const [name, value] of Object.entries(fields)) {
		// A line end would begin another header.
		// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
		if (value !== undefined) made.set(name, value.replaceAll(/[\u0000-\u001f\u007f]/g, " ").slice(0, 1024));
	}
	return made;
}

const CHAIN_INTERVAL_MS = 1_000;
const CHAIN_RETRY_MS = 30_000;

/**
 * Carries the manifest chain's heads out of the database. Each head covers all before it, so only the newest counts,
 * once a second at most, best effort: nothing waits for it.
 *
 * Idle → a head is offered → waiting for the second to be over → publishing the newest → idle, or waiting again if a
 * newer head came meanwhile. Without a connection the newest is kept until there is one; after a failure it is tried
 * again, unless a newer one took its place.
 */
export class ChainHeads {
	readonly #jetstream: () => JetStreamClient | undefined;
	readonly #logger: Logger;
	/** What is still to be published. */
	#newest: ChainHead | undefined;
	#highest = -1n;
	#notBefore = 0;
	#timer: NodeJS.Timeout | undefined;
	#publishing = false;
	#closed = false;

	/** @param jetstream the connection of the moment, if there is one */
	constructor(jetstream: () => JetStreamClient | undefined, logger: Logger) {
		this.#jetstream = jetstream;
		this.#logger = logger;
	}

	offer(head: ChainHead): void {
		// Several transactions commit side by side; their heads may be offered out of order.
		if (head.batchNo < this.#highest) return;
		this.#highest = head.batchNo;
		this.#newest = head;
		this.#schedule();
	}

	/** To be called when there is a connection again. */
	connected(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#notBefore = 0;
		this.#schedule();
	}

	close(): void {
		this.#closed = true;
		clearTimeout(this.#timer);
	}

	#schedule(): void {
		if (this.#closed || this.#timer || this.#publishing || !this.#newest) return;
		const waitMs = Math.max(0, this.#notBefore - performance.now());
		this.#timer = setTimeout(() => void this.#publish(), waitMs);
	}

	async #publish(): Promise<void> {
		this.#timer = undefined;
		const [js, head] = [this.#jetstream(), this.#newest];
		if (!js || !head) return;
		this.#newest = undefined;
		this.#publishing = true;
		try {
			this.#notBefore = performance.now() + CHAIN_INTERVAL_MS;
			await js.publish(CHAIN_SUBJECT, encodeHead(head), {
				msgID: `chain:${head.batchNo}:${head.batchId}`,
				timeout: PUBLISH_TIMEOUT_MS,
				expect: { streamName: CHAIN_STREAM },
			});
		} catch (error) {
			this.#newest ??= head;
			this.#notBefore = performance.now() + CHAIN_RETRY_MS;
			this.#logger.debug({ err: error }, "a chain head was not published");
		} finally {
			this.#publishing = false;
			this.#schedule();
		}
	}
}

/** 64-bit numbers as strings, as in protobuf's JSON. */
function encodeHead({ batchNo, batchId, chain, events }: ChainHead): string {
	return JSON.stringify({
		batch_no: batchNo.toString(),
		batch_id: batchId.toString(),
		chain: Buffer.from(chain).toString("hex"),
		events,
	});
}
