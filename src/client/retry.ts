import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Interceptor } from "@connectrpc/connect";
import {
	type BatchWriteRequest,
	BatchWriteRequestSchema,
	type WriteEventRequest,
	WriteEventRequestSchema,
} from "../gen/audit/v1/audit_service_pb.ts";
import type { Event } from "../gen/audit/v1/event_pb.ts";
import { toAuditError } from "./errors.ts";
import { createUuidV7Source } from "./uuidv7.ts";

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;

/** Done twice they make two keys, of which one is nobody's. */
const NOT_REPEATED: ReadonlySet<string> = new Set(["CreateApiKey", "RotateApiKey"]);

/**
 * Repeats calls that failed because the service is away or full, until they succeed, fail otherwise, or their time is
 * up; but not those that make API keys. Writes are safe to repeat because every event has an id before it is sent for the first time: the service stores
 * an id once.
 */
export function retry(attempts = 6): Interceptor {
	const newId = createUuidV7Source();
	return (next) => async (request) => {
		if (request.stream || NOT_REPEATED.has(request.method.name)) return next(request);
		const message = withIds(request.message as WriteEventRequest | BatchWriteRequest, newId);
		const identified = { ...request, message } as typeof request;
		for (let attempt = 1; ; attempt += 1) {
			try {
				return await next(identified);
			} catch (error) {
				const delayMs = attempt < attempts ? delayBefore(attempt, error) : undefined;
				if (delayMs === undefined) throw error;
				await wait(delayMs, request.signal, error);
			}
		}
	};
}

/** The same request with an id for each event that has neither id nor idempotency key. Never changes the caller's. */
function withIds(
	message: WriteEventRequest | BatchWriteRequest,
	newId: (millis: number) => string,
): WriteEventRequest | BatchWriteRequest {
	const identified = (event: Event): Event => {
		if (event.id !== "" || event.idempotencyKey !== "") return event;
		// The id's millisecond must be the event's, and an event is looked up by it.
		const millis = event.occurredAt ? Math.floor(timestampMs(event.occurredAt)) : Date.now();
		return millis < 0 || millis >= 2 ** 48 ? event : { ...event, id: newId(millis) };
	};
	if (message.$typeName === WriteEventRequestSchema.typeName && message.event) {
		return create(WriteEventRequestSchema, { event: identified(message.event) });
	}
	if (message.$typeName === BatchWriteRequestSchema.typeName) {
		return create(BatchWriteRequestSchema, { mode: message.mode, events: message.events.map(identified) });
	}
	return message;
}

/** How long to wait before the next attempt; undefined if there should be none. */
function delayBefore(attempt: number, error: unknown): number | undefined {
	const { code, retryAfterMs } = toAuditError(error);
	if (code !== "unavailable" && code !== "resource_exhausted") return undefined;
	// A limit that no retry changes, such as a request too large, comes without a time to retry after.
	if (code === "resource_exhausted" && retryAfterMs === undefined) return undefined;
	const backoff = Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), LONGEST_DELAY_MS);
	// Up to half as long again, so that callers turned away together do not come back together.
	return Math.max(backoff, retryAfterMs ?? 0) * (1 + Math.random() / 2);
}

/**
 * Waits, or gives up with the last error when the call's time is up. Connect then tells its caller of the time alone, so the
 * error is put where whoever looks for the reason finds it: into the cause.
 */
function wait(delayMs: number, signal: AbortSignal, error: unknown): Promise<void> {
	return new Promise((resolve, reject) => {
		const giveUp = () => {
			clearTimeout(timer);
			if (signal.reason instanceof ConnectError) signal.reason.cause ??= error;
			reject(error as Error);
		};
		const timer = setTimeout(() => {
			signal.removeEventListener("abort", giveUp);
			resolve();
		}, delayMs);
		if (signal.aborted) giveUp();
		else signal.addEventListener("abort", giveUp, { once: true });
	});
}
