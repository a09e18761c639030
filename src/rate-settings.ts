/** A second, in one process; Infinity: no limit. */
export interface RateSettings {
	/** Events brought, and bytes of the requests that bring them, as they are sent: before decompression. */
	readonly keyEvents: number;
	readonly keyBytes: number;
	/** By all keys together. */
	readonly tenantEvents: number;
	readonly tenantBytes: number;
	/** Searches and reads of one event. */
	readonly keyReads: number;
}

type RateName = `AUDIT_${"KEY" | "TENANT"}_${"EVENTS" | "BYTES"}_PER_SECOND` | "AUDIT_KEY_READS_PER_SECOND";

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
