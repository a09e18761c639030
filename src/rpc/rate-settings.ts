/** A second, in one process; Infinity: no limit. */
export interface RateSettings {
	/** Events brought, and bytes of the requests that bring them, as they are sent: before decompression. */
	readonly keyEvents: number;
	readonly keyBytes: number;
	/** By all keys together. */
	readonly tenantEvents: number;
	readonly tenantBytes: number;
	/** Searches, counts, exports and reads of one event. */
	readonly keyReads: number;
}

/** Each a number of things per second; not given: no limit. */
export const RATE_SETTINGS = {
	AUDIT_KEY_EVENTS_PER_SECOND: {
		doc: "The most events one key may bring over RPC and REST; without it, none: what is much differs from one deployment to the next. Each process counts by itself; what comes by NATS is not counted. Like the limits below it lets two seconds' worth pass at once, refuses a call whole, and says when to try again. A batch of more than that passes when nothing came before it, and is paid back.",
		optional: true,
		parse: parseRate,
	},
	AUDIT_TENANT_EVENTS_PER_SECOND: {
		doc: "The same for the events of one tenant, whichever keys bring them.",
		optional: true,
		parse: parseRate,
	},
	AUDIT_KEY_BYTES_PER_SECOND: {
		doc: "The most bytes of requests with events that one key may send, counted as they are sent: before decompression.",
		optional: true,
		parse: parseRate,
	},
	AUDIT_TENANT_BYTES_PER_SECOND: {
		doc: "The same for one tenant, whichever keys send them. A batch's bytes are shared by its tenants according to their events.",
		optional: true,
		parse: parseRate,
	},
	AUDIT_KEY_READS_PER_SECOND: {
		doc: "The most searches, counts, exports and reads of single events of one key; each is one, however much it reads.",
		optional: true,
		parse: parseRate,
	},
} as const;

type RateName = keyof typeof RATE_SETTINGS;

/** @param read one setting by its name; undefined if it is not given */
export function readRates(read: (name: RateName) => number | undefined): RateSettings {
	const rate = (name: RateName) => read(name) ?? Number.POSITIVE_INFINITY;
	return {
		keyEvents: rate("AUDIT_KEY_EVENTS_PER_SECOND"),
		keyBytes: rate("AUDIT_KEY_BYTES_PER_SECOND"),
		tenantEvents: rate("AUDIT_TENANT_EVENTS_PER_SECOND"),
		tenantBytes: rate("AUDIT_TENANT_BYTES_PER_SECOND"),
		keyReads: rate("AUDIT_KEY_READS_PER_SECOND"),
	};
}

function parseRate(text: string): number {
	const rate = Number(text);
	if (!/^\d{1,12}$/.test(text) || rate < 1) throw new Error("must be a whole number from 1 to 999999999999");
	return rate;
}
