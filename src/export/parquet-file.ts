import { Worker } from "node:worker_threads";
import type { CellType } from "./columns.ts";

export interface ParquetColumn {
	readonly name: string;
	readonly type: CellType;
}

/** By the column's type; undefined where there is nothing. */
export type Cell = string | number | undefined;

/** What the thread is told; it answers each in turn with bytes. */
export type ToThread =
	| { readonly batch: readonly (readonly Cell[])[] }
	| { readonly metadata: Readonly<Record<string, string>> };

/**
 * One Parquet file in the making. Its row groups are encoded and compressed in a thread of its own: each takes some 0.2 s,
 * and whoever writes events meanwhile must not wait for that. The library is loaded there, too, and so only when there
 * is such a file to write.
 */
export class ParquetFile {
	readonly #thread: Worker;
	#answer: PromiseWithResolvers<Uint8Array> | undefined;
	#ended: Error | undefined;

	constructor(columns: readonly ParquetColumn[]) {
		const workerData = columns.map(({ name, type }): ParquetColumn => ({ name, type }));
		this.#thread = new Worker(THREAD, { workerData, resourceLimits: MEMORY });
		this.#thread.on("message", (bytes: Uint8Array) => this.#answer?.resolve(bytes));
		this.#thread.on("error", (error) => this.#end(error));
		this.#thread.on("exit", () => this.#end(new Error("the thread that writes Parquet has ended")));
	}

	/**
	 * Adds rows; not to be called again before it has answered.
	 *
	 * @param batch the cells of each column, in the columns' order; all of one length
	 * @returns the bytes that follow in the file; none until a row group is full
	 */
	write(batch: readonly (readonly Cell[])[]): Promise<Uint8Array> {
		return this.#ask({ batch });
	}

	/** Writes what is left, and the footer with these keys and values. @returns the last bytes of the file */
	end(metadata: Readonly<Record<string, string>>): Promise<Uint8Array> {
		return this.#ask({ metadata });
	}

	/** Ends the thread, whether or not the file was finished. */
	async close(): Promise<void> {
		await this.#thread.terminate();
	}

	#end(why: Error): void {
		this.#ended ??= why;
		this.#answer?.reject(this.#ended);
	}

	#ask(message: ToThread): Promise<Uint8Array> {
		this.#answer = Promise.withResolvers();
		if (this.#ended) this.#answer.reject(this.#ended);
		this.#thread.postMessage(message);
		return this.#answer.promise;
	}
}

/** TypeScript in a clone, JavaScript in the package. */
const THREAD = new URL(
	import.meta.url.endsWith(".ts") ? "./parquet-thread.ts" : "./parquet-thread.js",
	import.meta.url,
);

/**
 * In MB. A row group is garbage as soon as it is written: with a small nursery that is noticed before the process has
 * grown. The other is what V8 ends the thread at, rather than the service.
 */
const MEMORY = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 };
