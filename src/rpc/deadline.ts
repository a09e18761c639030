import { RPC_LIMITS } from "./limits.ts";

/**
 * Sees to it that a call has a deadline, and none later than the service's own: a caller may ask for less time, not for
 * more. Headers that are malformed stay, for Connect to refuse.
 *
 * @param header the request's headers, changed in place
 */
export function boundDeadline(header: Headers, limitMs: number): void {
	const isGrpc = header.get("content-type")?.startsWith("application/grpc") ?? false;
	const name = isGrpc ? "grpc-timeout" : "connect-timeout-ms";
	const given = header.get(name);
	const givenMs = given === null ? Number.POSITIVE_INFINITY : isGrpc ? grpcTimeoutMs(given) : connectTimeoutMs(given);
	if (givenMs !== undefined && givenMs > limitMs) header.set(name, isGrpc ? `${limitMs}m` : String(limitMs));
}

export function deadlineOf(rpc: string): number {
	return rpc === "writeEvent" || rpc === "batchWrite" ? RPC_LIMITS.writeMs : RPC_LIMITS.readMs;
}

function connectTimeoutMs(text: string): number | undefined {
	return /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: at most 8 digits and a unit. */
function grpcTimeoutMs(text: string): number | undefined {
	const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(text) ?? [];
	return digits && unit ? Number(digits) * (UNIT_MS[unit] ?? 0) : undefined;
}

const UNIT_MS: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };
