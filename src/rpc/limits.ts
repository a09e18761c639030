/** The bounds of the RPC and REST doors. */
export const RPC_LIMITS = {
	/** One request, after decompression: a batch's limit. */
	requestBytes: 4 * 1024 * 1024,
	/** Error details in a gRPC trailer: clients refuse header blocks above 8 KiB or so. */
	trailerDetailBytes: 4 * 1024,
} as const;

/** What the doors allow all calls together, and each call in time. */
export interface DoorLimits {
	/** Requests being read or handled together. Whoever comes then is turned away and may try again. */
	readonly inFlightBytes: number;
	/** The share of them that one key may take. */
	readonly inFlightBytesPerKey: number;
	/** How long a call may take. A caller may ask for less, not for more. */
	readonly writeMs: number;
	readonly readMs: number;
	/** How long an answer may stand still because nobody reads it. Longer than any call takes, which stands still too. */
	readonly stalledMs: number;
	/** How long a graceful end waits for calls in flight: less than the 10 s after which `docker stop` kills. */
	readonly drainMs: number;
}

export const DOOR_LIMITS: DoorLimits = {
	inFlightBytes: 64 * 1024 * 1024,
	inFlightBytesPerKey: 16 * 1024 * 1024,
	writeMs: 15_000,
	readMs: 30_000,
	stalledMs: 60_000,
	drainMs: 8_000,
};

export function deadlineOf(rpc: string, { writeMs, readMs }: DoorLimits): number {
	return rpc === "writeEvent" || rpc === "batchWrite" ? writeMs : readMs;
}

/** node:http. */
export const HTTP1_LIMITS = {
	headersTimeout: 10_000,
	requestTimeout: 30_000,
	keepAliveTimeout: 65_000,
	maxHeaderSize: 16 * 1024,
	// A missing Host is answered by `guard`, like a malformed one.
	requireHostHeader: false,
} as const;

/** node:http2. The frame limits answer floods: rapid reset (CVE-2023-44487), invalid and refused frames. */
export const HTTP2_LIMITS = {
	maxSessionInvalidFrames: 100,
	maxSessionRejectedStreams: 100,
	streamResetBurst: 200,
	streamResetRate: 20,
	maxHeaderListPairs: 64,
	settings: { maxConcurrentStreams: 100, maxHeaderListSize: 16 * 1024, initialWindowSize: 256 * 1024 },
} as const;

export const CONNECTION_LIMITS = {
	connections: 2_000,
	/** Until the first bytes say which protocol a connection speaks. */
	firstBytesMs: 10_000,
	/** Until an HTTP/2 session without traffic is closed. */
	idleSessionMs: 300_000,
} as const;
