import type { RpcName } from "../auth/permissions.ts";
import type { RateSettings } from "./rate-settings.ts";

/** The bounds of the RPC and REST doors. */
export const RPC_LIMITS = {
	/** One request, after decompression: a batch's limit. */
	requestBytes: 4 * 1024 * 1024,
	/** One answer: a page ends at 3 MiB, and the events of a batch have short results. */
	answerBytes: 4 * 1024 * 1024,
	/** Error details in a gRPC trailer: clients refuse header blocks above 8 KiB or so. */
	trailerDetailBytes: 4 * 1024,
	/** Names and values of a request's headers. */
	headerBytes: 16 * 1024,
} as const;

/** What the doors allow all connections and calls together, and each of them in time. */
export interface DoorLimits {
	/** Connections in all, on both ports, and of one address. */
	readonly connections: number;
	readonly connectionsPerAddress: number;
	/** Calls being answered, and those of one address. What a call takes before its caller is known is bounded by this. */
	readonly calls: number;
	readonly callsPerAddress: number;
	/** Requests being read or handled together. Whoever comes then is turned away and may try again. */
	readonly inFlightBytes: number;
	/** The share of them that one key may take. */
	readonly inFlightBytesPerKey: number;
	/** Answers being made or not yet read, each counted as what it may become. Whoever comes then waits. */
	readonly answerBytes: number;
	readonly answerBytesPerKey: number;
	/** Streams that need a key: those of one key, and of all keys bound to one tenant. */
	readonly keyStreams: number;
	readonly tenantStreams: number;
	/** What a key and a tenant may ask for in a second. */
	readonly rates: RateSettings;
	/** How long a unary call may take. A caller may ask for less, not for more. */
	readonly writeMs: number;
	readonly readMs: number;
	/** How long an answer may stand still because what there is of it is not read. */
	readonly stalledMs: number;
	/** Until a connection's first bytes have said which protocol it speaks; until a request's headers are there. */
	readonly headersMs: number;
	/** Until an HTTP/2 session without a call is closed. */
	readonly idleMs: number;
	/** An HTTP/2 peer that has said nothing for so long is asked whether it lives, and has `pongMs` to answer. */
	readonly pingMs: number;
	readonly pongMs: number;
	/** From the order to stop until the ports close: a load balancer's time to see that the service is not ready. */
	readonly noticeMs: number;
	/** From the order to stop until calls in flight are cut off: less than the 10 s after which `docker stop` kills. */
	readonly drainMs: number;
}

const MIB = 1024 * 1024;

export const DOOR_LIMITS: DoorLimits = {
	connections: 2_000,
	connectionsPerAddress: 1_000,
	calls: 4_096,
	callsPerAddress: 2_048,
	inFlightBytes: 64 * MIB,
	inFlightBytesPerKey: 16 * MIB,
	answerBytes: 96 * MIB,
	answerBytesPerKey: 32 * MIB,
	keyStreams: 100,
	tenantStreams: 500,
	rates: {
		keyEvents: Number.POSITIVE_INFINITY,
		keyBytes: Number.POSITIVE_INFINITY,
		tenantEvents: Number.POSITIVE_INFINITY,
		tenantBytes: Number.POSITIVE_INFINITY,
		keyReads: Number.POSITIVE_INFINITY,
	},
	writeMs: 15_000,
	readMs: 30_000,
	stalledMs: 20_000,
	headersMs: 10_000,
	idleMs: 300_000,
	pingMs: 30_000,
	pongMs: 10_000,
	noticeMs: 2_000,
	drainMs: 8_000,
};

/** Of one unary call, by the RPC's name. */
export function deadlineOf(rpc: string, { writeMs, readMs }: DoorLimits): number {
	return isWrite(rpc) ? writeMs : readMs;
}

const SMALL_ANSWER = 512 * 1024;

/**
 * What an answer may become. A write's is no larger than its request, which is counted until the answer is read. An RPC
 * that is missing here does not compile.
 */
const ANSWER_BYTES: Readonly<Record<RpcName, number>> = {
	writeEvent: 0,
	batchWrite: 0,
	query: RPC_LIMITS.answerBytes,
	getEvent: SMALL_ANSWER,
	// A stream, and bounded by how many there may be: its answer is made for as long as it is read.
	export: 0,
	// 200 letters, each with up to 1,000 characters of what was published.
	listDeadLetters: RPC_LIMITS.answerBytes,
	// A body may have 1 MiB, and a third more in JSON.
	getDeadLetter: RPC_LIMITS.answerBytes,
	// The events, or all that is wrong, of 100 letters.
	redriveDeadLetters: RPC_LIMITS.answerBytes,
	discardDeadLetters: SMALL_ANSWER,
	createApiKey: SMALL_ANSWER,
	// 200 keys, each with up to 100 tenants.
	listApiKeys: RPC_LIMITS.answerBytes,
	// As many keys of one identity as work at one time, and the new one.
	rotateApiKey: SMALL_ANSWER,
	revokeApiKey: SMALL_ANSWER,
	createTenant: SMALL_ANSWER,
	// 500 tenants, each with a name.
	listTenants: RPC_LIMITS.answerBytes,
	renameTenant: SMALL_ANSWER,
	disableTenant: SMALL_ANSWER,
	enableTenant: SMALL_ANSWER,
};

/** @param rpc its name; also that of one which needs no key, as health checks do */
export function answerBytesOf(rpc: string): number {
	return (ANSWER_BYTES as Readonly<Record<string, number>>)[rpc] ?? SMALL_ANSWER;
}

function isWrite(rpc: string): boolean {
	return rpc === "writeEvent" || rpc === "batchWrite";
}

/** node:http. */
export const HTTP1_LIMITS = {
	// Longer than a write may take, so that a body that comes too slowly meets the call's own deadline first.
	requestTimeout: 30_000,
	keepAliveTimeout: 65_000,
	maxHeaderSize: RPC_LIMITS.headerBytes,
	// Notices peers that are gone without a word while they wait for something to be said.
	keepAlive: true,
	keepAliveInitialDelay: 30_000,
	// A missing Host is answered by `guard`, like a malformed one.
	requireHostHeader: false,
} as const;

/** node:http2. It bounds the size of header blocks itself, once the peer has acknowledged the settings. */
export const HTTP2_LIMITS = {
	maxSessionInvalidFrames: 100,
	maxSessionRejectedStreams: 100,
	maxHeaderListPairs: 64,
	settings: { maxConcurrentStreams: 100, maxHeaderListSize: RPC_LIMITS.headerBytes, initialWindowSize: 256 * 1024 },
} as const;

/**
 * How many calls an HTTP/2 peer may begin and cancel: rapid reset (CVE-2023-44487) costs it nothing and us a call each.
 * Node's `streamResetBurst` and `streamResetRate` have no effect (24.21), and its own limit leaves the connection open.
 */
export const RESET_LIMITS = { burst: 200, perSecond: 20 } as const;
