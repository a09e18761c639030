import { toBinary } from "@bufbuild/protobuf";
import type { AuditClient } from "../../client/index.ts";
import { AuditError, type Violation } from "../../errors.ts";
import type { WriteEventResponse } from "../../gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../../gen/audit/v1/event_pb.ts";
import { asAuditErrors } from "../service-call.ts";
import { InFlight } from "./in-flight.ts";

/** An event and where it came from, such as `line 3`. */
export interface SourcedEvent {
	place: string;
	event: Event;
}

/** What became of an event that was sent. */
export type Sent = { written: WriteEventResponse } | { refused: Refusal };

export interface Refusal {
	message: string;
	violations: Violation[];
}

/** The service takes 1,000 events and 4 MiB in one call; JSON may need more room than what is counted here. */
const BATCH = { events: 500, bytes: 2 * 1024 * 1024 };
/** While the service commits one batch, the next ones are on their way. */
const CALLS_AT_ONCE = 4;

/** Sends events through BatchWrite as they come, and tells what became of each. */
export async function sendEvents(
	client: AuditClient,
	events: AsyncIterable<SourcedEvent>,
	onSent: (event: SourcedEvent, sent: Sent) => void,
): Promise<void> {
	const inFlight = new InFlight(CALLS_AT_ONCE);
	for await (const batch of inBatches(events, BATCH)) await inFlight.start(() => sendBatch(client, batch, onSent));
	await inFlight.drain();
}

/** Groups events by number and size; one larger than the limit goes alone. */
export async function* inBatches(
	events: AsyncIterable<SourcedEvent>,
	limit: { events: number; bytes: number },
): AsyncGenerator<SourcedEvent[]> {
	let batch: SourcedEvent[] = [];
	let bytes = 0;
	for await (const sourced of events) {
		// Tag and length around each event of a batch take 8 bytes at most.
		const size = toBinary(EventSchema, sourced.event).length + 8;
		if (batch.length > 0 && (batch.length >= limit.events || bytes + size > limit.bytes)) {
			yield batch;
			batch = [];
			bytes = 0;
		}
		batch.push(sourced);
		bytes += size;
	}
	if (batch.length > 0) yield batch;
}

async function sendBatch(
	client: AuditClient,
	batch: SourcedEvent[],
	onSent: (event: SourcedEvent, sent: Sent) => void,
): Promise<void> {
	const events = batch.map(({ event }) => event);
	const { results } = await asAuditErrors(() => client.batchWrite({ events }));
	batch.forEach((sourced, i) => {
		const result = results[i]?.result;
		if (result?.case === "written") return onSent(sourced, { written: result.value });
		if (result?.case !== "error") throw new Error("the service answered for fewer events than it was sent");
		const { code, reason, message, violations } = result.value;
		// It will be the same for all the others.
		if (code === "not_found" || code === "permission_denied") throw new AuditError(code, message, { reason });
		// The path within the event: its number in the batch means nothing to whoever sent a file.
		const within = violations.map(({ field, message: what }) => {
			return { field: field.replace(`events[${i}].`, ""), message: what };
		});
		return onSent(sourced, { refused: { message, violations: within } });
	});
}
