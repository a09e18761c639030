import { type Logger, pino } from "pino";

export type { Logger };

/**
 * The service's own diagnostics: one JSON object a line on standard output. Messages are constant, facts are fields;
 * neither payloads nor secrets are ever logged.
 */
export function createLogger(level: string): Logger {
	return pino({ level, base: null, redact: ["authorization", "password", "secret", "key"] }, pino.destination(1));
}
