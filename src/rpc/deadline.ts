import { deadlineExceeded } from "./errors.ts";

/** Waits for work, but not longer than that. @throws AuditError `deadline_exceeded` */
export async function within<T>(ms: number, work: Promise<T>): Promise<T> {
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<never>((_, reject) => {
		timer = setTimeout(() => reject(deadlineExceeded()), ms);
	});
	try {
		return await Promise.race([work, late]);
	} finally {
		clearTimeout(timer);
	}
}

/**
 * How long an RPC may take: what its caller asks for, and no longer than the service's own limit. A timeout that can be
 * read is taken out of the headers, so that Connect keeps no second clock; one that is malformed stays, for it to refuse.
 *
 * @param header the request's headers, changed in place
 */
export function takeTimeout(header: Headers, limitMs: number): number {
	const isGrpc = header.get("content-type")?.startsWith("application/grpc") ?? false;
	const name = isGrpc ? "grpc-timeout" : "connect-timeout-ms";
	const given = header.get(name) ?? "";
	const givenMs = isGrpc ? grpcTimeoutMs(given) : connectTimeoutMs(given);
	if (givenMs === undefined) return limitMs;
	header.delete(name);
	return Math.min(givenMs, limitMs);
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
