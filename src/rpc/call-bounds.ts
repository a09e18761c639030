import { createContextKey } from "@connectrpc/connect";
import type { ByteBudget } from "./byte-budget.ts";
import type { Call, NodeRequest, NodeResponse } from "./call.ts";
import { within } from "./deadline.ts";
import { callerLeft, requestTooLarge } from "./errors.ts";

export interface BodyLimits {
	/** As sent, before decompression. */
	readonly maxBytes: number;
	readonly isCompressed: boolean;
}

/**
 * What one call may take: time until its deadline, and bytes of the budget for reading its request.
 *
 * Open from the call's first moment; over, for good, once the answer is sent or the connection is gone. Then its bytes are
 * given back and nothing more is taken: what still comes of the request is thrown away, which leaves an HTTP/1.1
 * connection fit for the next one.
 */
export class CallBounds {
	readonly #endsAt: number;
	readonly #budget: ByteBudget;
	readonly #request: NodeRequest;
	readonly #call: Call;
	#taken = 0;
	#isOver = false;
	#abandonBody = () => {};

	constructor(request: NodeRequest, response: NodeResponse, call: Call, bounds: { ms: number; budget: ByteBudget }) {
		this.#request = request;
		this.#call = call;
		this.#budget = bounds.budget;
		this.#endsAt = performance.now() + bounds.ms;
		// Comes when the answer is sent as well: `endWithAnswer` sees to it that a stream is not left half-open.
		response.once("close", () => this.#end());
	}

	/** Waits no longer than the deadline. @throws AuditError `deadline_exceeded` */
	inTime<T>(work: Promise<T>): Promise<T> {
		return within(this.#endsAt - performance.now(), work);
	}

	/**
	 * Reads the request's body whole, once the caller is known.
	 *
	 * @throws AuditError `resource_exhausted` if it is too large or there is no room for it, `deadline_exceeded`
	 */
	readBody(limits: BodyLimits): Promise<Uint8Array> {
		return this.inTime(this.#readBody(limits));
	}

	#readBody({ maxBytes, isCompressed }: BodyLimits): Promise<Uint8Array> {
		return new Promise((resolve, reject) => {
			if (this.#isOver) return reject(callerLeft());
			const chunks: Uint8Array[] = [];
			let size = 0;
			let refused = false;
			const refuse = (error: Error) => {
				refused = true;
				chunks.length = 0;
				reject(error);
			};
			this.#abandonBody = () => refuse(callerLeft());
			// Not `for await`: leaving that early destroys the request, and its connection would hang.
			this.#request.on("data", (chunk: Uint8Array) => {
				if (refused) return;
				size += chunk.byteLength;
				try {
					if (size > maxBytes) throw requestTooLarge();
					this.#take(isCompressed ? unpackedSize(size, maxBytes) : size);
					chunks.push(chunk);
				} catch (error) {
					refuse(error as Error);
				}
			});
			this.#request.once("end", () => resolve(Buffer.concat(chunks)));
		});
	}

	/** @param bytes what the call takes in all */
	#take(bytes: number): void {
		this.#budget.take(payerOf(this.#call), bytes - this.#taken);
		this.#taken = bytes;
	}

	#end(): void {
		if (this.#isOver) return;
		this.#isOver = true;
		this.#abandonBody();
		if (this.#taken > 0) this.#budget.giveBack(payerOf(this.#call), this.#taken);
	}
}

/** Whose share a call's bytes are taken from: those who need no key have one together. */
function payerOf(call: Call): string {
	return call.principal?.keyId ?? "";
}

/** Where Connect's interceptors find a call's bounds. */
export const boundsKey = createContextKey<CallBounds | undefined>(undefined);

/** What compressed bytes may become: https://zlib.net/zlib_tech.html has the factor. Beyond the limit they are refused. */
function unpackedSize(bytes: number, maxBytes: number): number {
	return Math.min(bytes * 1032, maxBytes);
}
