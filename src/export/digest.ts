import { createSHA256 } from "hash-wasm";

/** What went into a digest so far, and how much that was: enough to go on from there in another process. */
export interface DigestState {
	readonly bytes: bigint;
	readonly state: Uint8Array;
}

/** SHA-256 of bytes as they come. Node's own cannot be stopped and gone on with elsewhere; this one can. */
export class Digest {
	readonly #sha: Awaited<ReturnType<typeof createSHA256>>;
	#bytes: bigint;

	private constructor(sha: Awaited<ReturnType<typeof createSHA256>>, bytes: bigint) {
		this.#sha = sha;
		this.#bytes = bytes;
	}

	/** @throws if the state is one of another version of hash-wasm */
	static async open(from?: DigestState): Promise<Digest> {
		const sha = await createSHA256();
		if (from) sha.init().load(from.state);
		else sha.init();
		return new Digest(sha, from?.bytes ?? 0n);
	}

	get bytes(): bigint {
		return this.#bytes;
	}

	update(bytes: Uint8Array): void {
		this.#sha.update(bytes);
		this.#bytes += BigInt(bytes.byteLength);
	}

	save(): DigestState {
		return { bytes: this.#bytes, state: this.#sha.save() };
	}

	/** The last thing to ask for. */
	digest(): Uint8Array {
		return this.#sha.digest("binary");
	}
}

/** The length of a saved state. */
export const DIGEST_STATE_BYTES = 116;
