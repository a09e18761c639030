import { setTimeout as sleep } from "node:timers/promises";
import type { Acknowledgement, AuditPublisher } from "../../client/nats.ts";
import { AuditError } from "../../errors.ts";
import type { Event } from "../../gen/audit/v1/event_pb.ts";
import { InFlight } from "./in-flight.ts";
import { inBatches, type SourcedEvent } from "./send-events.ts";

/** Well below the 1 MiB a message may have, and what one may hold of events. */
const MESSAGE = { events: 500, bytes: 512 * 1024 };
const MESSAGES_AT_ONCE = 16;

/** Publishes events as they come, several to a message, and waits until JetStream has acknowledged every one. */
export async function publishEvents(
	publisher: AuditPublisher,
	events: AsyncIterable<SourcedEvent>,
	onAcknowledged: (events: SourcedEvent[], repeated: boolean) => void,
): Promise<void> {
	const limit = { events: MESSAGE.events, bytes: Math.min(MESSAGE.bytes, publisher.maxMessageBytes) };
	const inFlight = new InFlight(MESSAGES_AT_ONCE);
	for await (const batch of inBatches(events, limit)) {
		await inFlight.start(async () => {
			const events = batch.map(({ event }) => event);
			const { repeated } = await publishPatiently(publisher, events);
			onAcknowledged(batch, repeated);
		});
	}
	await inFlight.drain();
}

const ATTEMPTS = 6;

/** Tries again for about 15 seconds what may work a moment later: NATS restarting, a stream that is full. */
async function publishPatiently(publisher: AuditPublisher, events: Event[]): Promise<Acknowledgement> {
	for (let attempt = 1; ; attempt += 1) {
		try {
			return await publisher.publish(events);
		} catch (error) {
			const retryAfterMs = error instanceof AuditError ? error.retryAfterMs : undefined;
			if (retryAfterMs === undefined || attempt === ATTEMPTS) throw error;
			await sleep(retryAfterMs * 2 ** (attempt - 1));
		}
	}
}
