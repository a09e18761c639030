import { createContextKey } from "@connectrpc/connect";
import type { Call, NodeRequest, NodeResponse } from "./call.ts";
import { within } from "./deadline.ts";
import { callerLeft, overloaded, requestTooLarge } from "./errors.ts";
import type { Quota } from "./quota.ts";

/** The bytes that calls may hold, by key. */
export interface Budgets {
	/** Requests being read or handled. */
	readonly requests: Quota;
	/** Answers being made or not yet read. */
	readonly answers: Quota;
}

export interface BodyLimits {
	/** As sent, before decompression. */
	readonly maxBytes: number;
	readonly isCompressed: boolean;
}

/**
 * What one call may take: time until its deadline, and bytes of the budgets for its request and its answer.
 *
 * Open from the call's first moment; over, for good, once the answer is sent or the connection is gone. Then its bytes are
 * given back and nothing more is taken: what still comes of the request is thrown away, which leaves an HTTP/1.1
 * connection fit for the next one.
 */
export class CallBounds {
	readonly #endsAt: number;
	readonly #budgets: Budgets;
	readonly #request: NodeRequest;
	readonly #call: Call;
	#taken = 0;
	#takenForAnswer = 0;
	readonly #over = new AbortController();
	#abandonBody = () => {};

	constructor(request: NodeRequest, response: NodeResponse, call: Call, bounds: { ms: number; budgets: Budgets }) {
		this.#request = request;
		this.#call = call;
		this.#budgets = bounds.budgets;
		this.#endsAt = performance.now() + bounds.ms;
		// Comes when the answer is sent as well: `endWithAnswer` sees to it that a stream is not left half-open.
		response.once("close", () => this.#end());
	}

	/** Waits no longer than the deadline. @throws AuditError `deadline_exceeded` */
	inTime<T>(work: Promise<T>): Promise<T> {
		return within(this.#endsAt - performance.now(), work);
	}

	/** Waits until there is room for an answer of that size: memory is bounded before it is made, not after. */
	async roomForAnswer(bytes: number): Promise<void> {
		if (bytes === 0) return;
		const payer = payerOf(this.#call);
		const taken = await this.#budgets.answers.takeLater(payer, bytes, this.#over.signal);
		if (this.#isOver) {
			if (taken) this.#budgets.answers.giveBack(payer, bytes);
			throw callerLeft();
		}
		this.#takenForAnswer += bytes;
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
			this.#request.once("end", () => {
				this.#call.bodyBytes = size;
				resolve(Buffer.concat(chunks));
			});
		});
	}

	/** Reads the body of a request that is a stream, for as long as it takes. @throws AuditError `resource_exhausted` */
	async *readStream({ maxBytes, isCompressed }: BodyLimits): AsyncGenerator<Uint8Array> {
		let size = 0;
		for await (const chunk of this.#request.iterator({ destroyOnReturn: false })) {
			if (this.#isOver) throw callerLeft();
			size += (chunk as Uint8Array).byteLength;
			// No more than one message of it is held at a time.
			this.#take(Math.min(isCompressed ? unpackedSize(size, maxBytes) : size, maxBytes));
			yield chunk as Uint8Array;
		}
	}

	/** Does something once the call is over; at once if it is. */
	whenOver(listener: () => void): void {
		if (this.#isOver) return listener();
		this.#over.signal.addEventListener("abort", listener, { once: true });
	}

	get #isOver(): boolean {
		return this.#over.signal.aborted;
	}

	/** @param bytes what the call takes in all */
	#take(bytes: number): void {
		if (!this.#budgets.requests.take(payerOf(this.#call), bytes - this.#taken)) throw overloaded();
		this.#taken = bytes;
	}

	#end(): void {
		if (this.#isOver) return;
		this.#over.abort();
		this.#abandonBody();
		const { requests, answers } = this.#budgets;
		if (this.#taken > 0) requests.giveBack(payerOf(this.#call), this.#taken);
		if (this.#takenForAnswer > 0) answers.giveBack(payerOf(this.#call), this.#takenForAnswer);
	}
}

/** Whose share a call's bytes are taken from: those who need no key have one together. */
function payerOf(call: Call): string {
	return call.principal?.id ?? "";
}

/** Where Connect's interceptors find a call's bounds. */
export const boundsKey = createContextKey<CallBounds | undefined>(undefined);

/** What compressed bytes may become: https://zlib.net/zlib_tech.html has the factor. Beyond the limit they are refused. */
function unpackedSize(bytes: number, maxBytes: number): number {
	return Math.min(bytes * 1032, maxBytes);
}
