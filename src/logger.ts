import { type Logger, pino } from "pino";

export type { Logger };

/**
 * The service's own diagnostics: one JSON object a line on standard output. Messages are constant, facts are fields;
 * neither payloads nor secrets are ever logged.
 */
export function createLogger(level: string): Logger {
	const redact = ["authorization", "password", "secret", "key"];
	return pino({ level, base: null, redact, serializers: { err: describeError } }, pino.destination(1));
}

/**
 * An error without what a caller may have put into it: the database repeats values in its messages and details, and COPY
 * whole rows in its context.
 */
export function describeError(error: unknown): unknown {
	if (typeof error === "string") return error;
	if (!(error instanceof Error)) return { type: typeof error };
	const { name, message, stack, code, severity, cause } = error as Error & { code?: unknown; severity?: unknown };
	const frames = stack?.split("\n").filter((line) => /^\s+at /.test(line));
	const told = { type: name, code, ...(severity === undefined && { message }), at: frames };
	return cause === undefined ? told : { ...told, cause: describeError(cause) };
}
