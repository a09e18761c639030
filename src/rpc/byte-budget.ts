import { AuditError } from "../errors.ts";

/** A bound on the bytes of all requests being read or handled, so that no number of callers can exhaust the memory. */
export class ByteBudget {
	#left: number;

	constructor(bytes: number) {
		this.#left = bytes;
	}

	/**
	 * Passes a request's body on, counting. What it took is given back by `release`, at the end of the call.
	 *
	 * @throws AuditError `resource_exhausted` as soon as there is no room for more
	 */
	meter(body: AsyncIterable<Uint8Array>): { body: AsyncIterable<Uint8Array>; release: () => void } {
		let taken = 0;
		const take = (bytes: number) => {
			if (bytes > this.#left) throw overloaded();
			this.#left -= bytes;
			taken += bytes;
		};
		const metered = async function* () {
			for await (const chunk of body) {
				take(chunk.byteLength);
				yield chunk;
			}
		};
		const release = () => {
			this.#left += taken;
			taken = 0;
		};
		return { body: metered(), release };
	}
}

function overloaded(): AuditError {
	return new AuditError("resource_exhausted", "too many requests are being handled; try again", {
		reason: "IN_FLIGHT_BYTES",
		retryAfterMs: 500,
	});
}
