import { createHash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { ErrorCode, headers, type NatsConnection, NatsError } from "nats";
import { AuditError } from "../errors.ts";
import { BatchWriteRequestSchema } from "../gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../gen/audit/v1/event_pb.ts";
import type { NatsAccess } from "../nats-access.ts";
import { connectNats } from "../nats-connect.ts";

export type { NatsAccess };

/** How JetStream took a message. */
export interface Acknowledgement {
	/** JetStream had seen the very same message in its duplicate window and took nothing new. */
	repeated: boolean;
}

/** Publishes events to the service's stream. An acknowledged event will be stored once or, visibly, dead-lettered. */
export interface AuditPublisher {
	/** The largest body one message may have, in bytes: a little less than the server's limit, for the headers. */
	readonly maxMessageBytes: number;
	/**
	 * Publishes events of one tenant as one message and waits for JetStream's acknowledgement. Safe to repeat: the
	 * message's id is made of its content.
	 *
	 * @throws AuditError: unavailable (try again), resource_exhausted (the stream is full), invalid_argument
	 */
	publish(events: readonly Event[]): Promise<Acknowledgement>;
	close(): Promise<void>;
}

/** Room for subject and headers in the server's limit on a message. */
const HEADER_ROOM_BYTES = 4096;
/** JetStream syncs to disk before it acknowledges where it is set up for that. */
const ACK_TIMEOUT_MS = 15_000;

export interface AuditPublisherOptions extends NatsAccess {
	/**
	 * What the subjects of answers begin with: the one that the producer's permissions let it listen to, such as `_INBOX_acme`.
	 * Default `_INBOX`.
	 */
	readonly inboxPrefix?: string | undefined;
}

/**
 * Connects to NATS, and from then on stays connected: NATS may restart, and credentials and certificates be replaced by
 * newer files of the same names.
 *
 * @throws AuditError: unavailable (try again), permission_denied
 */
export async function openAuditPublisher(options: AuditPublisherOptions): Promise<AuditPublisher> {
	const connection = await connectNats(options, {
		name: "auditlog client",
		timeout: 5_000,
		...(options.inboxPrefix !== undefined && { inboxPrefix: options.inboxPrefix }),
		// Without a bound on reconnecting an import of hours outlives a restart of NATS; each publish has its own time limit.
		maxReconnectAttempts: -1,
		// Credentials that have expired are replaced by somebody in time.
		ignoreAuthErrorAbort: true,
	}).catch((error: unknown) => {
		throw asAuditError(error);
	});
	const jetstream = connection.jetstream();
	return {
		maxMessageBytes: (connection.info?.max_payload ?? 1024 * 1024) - HEADER_ROOM_BYTES,
		async publish(events) {
			const { subject, body, msgID, isBatch } = messageOf(events);
			const header = headers();
			if (isBatch) header.set("Audit-Type", "batch");
			try {
				const ack = await jetstream.publish(subject, body, { msgID, headers: header, timeout: ACK_TIMEOUT_MS });
				return { repeated: ack.duplicate };
			} catch (error) {
				throw asAuditError(error);
			}
		},
		close: () => closeConnection(connection),
	};
}

function messageOf(events: readonly Event[]) {
	const [first] = events;
	if (!first) throw new AuditError("invalid_argument", "there is no event to publish", { reason: "INVALID_BATCH" });
	const { tenantId } = first;
	if (events.some((event) => event.tenantId !== tenantId)) {
		throw new AuditError("invalid_argument", "the events of one message must be of one tenant", {
			reason: "INVALID_BATCH",
		});
	}
	const isBatch = events.length > 1;
	const body = isBatch
		? toBinary(BatchWriteRequestSchema, create(BatchWriteRequestSchema, { events: [...events] }))
		: toBinary(EventSchema, first);
	return { subject: subjectOf(tenantId), body, msgID: messageId(tenantId, events, body), isBatch };
}

/** A tenant id that is one token of a subject binds the tenant; others go to the subject for trusted producers. */
function subjectOf(tenantId: string): string {
	return /^[A-Za-z0-9_:-]+$/.test(tenantId) ? `audit.events.${tenantId}` : "audit.events";
}

/**
 * JetStream deduplicates across tenants without looking at content, so a message's id is made of all three: a bare
 * event id would let one tenant's message hide another's. U+0000 is in neither of the first two.
 */
function messageId(tenantId: string, events: readonly Event[], body: Uint8Array): string {
	const ids = events.map((event) => event.id).join(",");
	return createHash("sha256").update(`${tenantId}\0${ids}\0`).update(body).digest("base64url");
}

async function closeConnection(connection: NatsConnection): Promise<void> {
	await connection.drain().catch(() => {});
	await connection.close();
}

function asAuditError(error: unknown): unknown {
	if (!(error instanceof NatsError)) {
		const { code } = error as NodeJS.ErrnoException;
		return code ? unavailable("NATS cannot be reached", error) : error;
	}
	const apiCode = error.api_error?.err_code;
	if (apiCode !== undefined && STREAM_FULL.has(apiCode)) {
		return new AuditError("resource_exhausted", "the NATS stream AUDIT is full", {
			reason: "STREAM_FULL",
			retryAfterMs: 1_000,
			cause: error,
		});
	}
	if (error.code === ErrorCode.NoResponders) {
		return unavailable("no NATS stream takes audit.events: the service makes it when it runs with NATS", error);
	}
	if (REFUSED.has(error.code)) return refused(error);
	// What is wrong with TLS is said in the error, and is not mended by trying again.
	if (error.code === ErrorCode.Tls || error.code === ErrorCode.ServerOptionNotAvailable) {
		return new AuditError("unavailable", error.message, { reason: "NATS_TLS", cause: error });
	}
	return unavailable(`NATS did not take the message (${error.code})`, error);
}

const REFUSED = new Set<string>([
	ErrorCode.AuthorizationViolation,
	ErrorCode.AuthenticationExpired,
	ErrorCode.PermissionsViolation,
]);

function refused(error: NatsError): AuditError {
	const listening = error.permissionContext?.operation === "subscription";
	const what = listening ? "receive answers: the inbox prefix must be the one they allow" : "publish here";
	return new AuditError("permission_denied", `NATS does not let these credentials ${what}`, {
		reason: "NATS_PERMISSION",
		cause: error,
	});
}

/** JetStream's codes for a stream at its limit of bytes or messages (`discard: new`), or out of storage. */
const STREAM_FULL = new Set([10023, 10047, 10077]);

function unavailable(message: string, cause: unknown): AuditError {
	return new AuditError("unavailable", message, { reason: "NATS_UNAVAILABLE", retryAfterMs: 500, cause });
}
