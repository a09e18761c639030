import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AccessService } from "../gen/audit/v1/access_service_pb.ts";
import { AuditService } from "../gen/audit/v1/audit_service_pb.ts";
import { DeadLetterService } from "../gen/audit/v1/dead_letter_service_pb.ts";
import { TenantService } from "../gen/audit/v1/tenant_service_pb.ts";
import { retry } from "./retry.ts";

export { AuditError, type ErrorCode, type Violation } from "../errors.ts";
export * from "../gen/audit/v1/access_service_pb.ts";
export * from "../gen/audit/v1/audit_service_pb.ts";
export * from "../gen/audit/v1/dead_letter_service_pb.ts";
export * from "../gen/audit/v1/event_pb.ts";
export * from "../gen/audit/v1/tenant_service_pb.ts";
export { toAuditError } from "./errors.ts";
export { retry } from "./retry.ts";
export { type EventCheck, verifyEvent } from "./verify-event.ts";

/** Writes, searches and gets events: `writeEvent`, `batchWrite`, `query`, `getEvent`. Made once, used for all calls. */
export type AuditClient = Client<typeof AuditService>;

/** Lists, gets, redrives and discards dead letters. Needs an operator key. */
export type DeadLetterClient = Client<typeof DeadLetterService>;

/** Makes, lists, rotates and revokes API keys. Needs a tenant admin's or an operator's key. */
export type AccessClient = Client<typeof AccessService>;
/** Makes, lists, renames, disables and enables tenants. Needs an operator key; of its own tenants a tenant admin's will do to list and rename. */
export type TenantClient = Client<typeof TenantService>;

export interface AuditClientOptions {
	/** Where the service listens: `http://host:8080` or `http://host:50051`; `https:` for TLS. */
	readonly url: string;
	/** The API key: `al_…`. */
	readonly key: string;
	/** How long a call may take, retries included. Default 30 s. */
	readonly timeoutMs?: number;
	/** How often a call is tried at most while the service is away or full. Default 6; 1: never repeated. */
	readonly attempts?: number;
	/**
	 * Instead of the Connect protocol over HTTP/2: any transport of Connect's packages. It has to send the key itself,
	 * and to use the interceptor `retry()` if calls are to be repeated.
	 */
	readonly transport?: Transport;
}

/**
 * A client for the audit log.
 *
 * Calls throw Connect's ConnectError; `toAuditError` turns that into code, reason and violations. Calls that fail because
 * the service is away or full are repeated within their time; nothing is stored twice by that. An idle client does not
 * keep the process alive.
 */
export function createAuditClient(options: AuditClientOptions): AuditClient {
	return createClient(AuditService, options.transport ?? nodeTransport(options));
}

/** A client for dead letters. What is said of `createAuditClient` holds for it. */
export function createDeadLetterClient(options: AuditClientOptions): DeadLetterClient {
	return createClient(DeadLetterService, options.transport ?? nodeTransport(options));
}

/**
 * A client for API keys. What is said of `createAuditClient` holds for it; but making and rotating a key is never repeated:
 * when it fails because the service is away, look at the list.
 */
export function createAccessClient(options: AuditClientOptions): AccessClient {
	return createClient(AccessService, options.transport ?? nodeTransport(options));
}

/** A client for tenants. What is said of `createAuditClient` holds for it. */
export function createTenantClient(options: AuditClientOptions): TenantClient {
	return createClient(TenantService, options.transport ?? nodeTransport(options));
}

function nodeTransport({ url, key, timeoutMs = 30_000, attempts }: AuditClientOptions): Transport {
	return createConnectTransport({
		baseUrl: url,
		httpVersion: "2",
		defaultTimeoutMs: timeoutMs,
		// Node's default of 10 MB refuses to send a few large batches at once.
		nodeOptions: { maxSessionMemory: 1_000 },
		// A connection that died without a word is noticed before the call's time is up.
		pingIntervalMs: 10_000,
		pingTimeoutMs: 5_000,
		interceptors: [
			(next) => (request) => {
				request.header.set("authorization", `Bearer ${key}`);
				return next(request);
			},
			retry(attempts),
		],
	});
}
