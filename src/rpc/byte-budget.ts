import { AuditError } from "../errors.ts";

/**
 * A bound on the bytes of all requests being read or handled, so that no number of callers can exhaust the memory; and
 * on each key's share of them, so that one caller cannot turn the others away.
 */
export class ByteBudget {
	readonly #perKey: number;
	readonly #takenBy = new Map<string, number>();
	readonly #bytes: number;
	#left: number;

	constructor(bytes: number, perKey: number) {
		this.#bytes = bytes;
		this.#left = bytes;
		this.#perKey = perKey;
	}

	/** @throws AuditError `resource_exhausted`, and nothing is taken, if there is no room */
	take(keyId: string, bytes: number): void {
		const taken = (this.#takenBy.get(keyId) ?? 0) + bytes;
		if (bytes > this.#left || taken > this.#perKey) throw overloaded();
		this.#left -= bytes;
		this.#takenBy.set(keyId, taken);
	}

	/** The bytes that are taken at the moment, by all. */
	get taken(): number {
		return this.#bytes - this.#left;
	}

	giveBack(keyId: string, bytes: number): void {
		this.#left += bytes;
		const taken = (this.#takenBy.get(keyId) ?? 0) - bytes;
		if (taken > 0) this.#takenBy.set(keyId, taken);
		else this.#takenBy.delete(keyId);
	}
}

function overloaded(): AuditError {
	return new AuditError("resource_exhausted", "too many requests are being handled; try again", {
		reason: "IN_FLIGHT_BYTES",
		retryAfterMs: 500,
	});
}
