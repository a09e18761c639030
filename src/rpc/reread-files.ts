import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { AuditError } from "../errors.ts";
import type { Logger } from "../logger.ts";

export interface RereadFilesOptions<T> {
	readonly paths: readonly string[];
	/** Makes sense of their texts, in the order of the paths. @throws Error whose message holds nothing secret */
	readonly parse: (texts: readonly string[]) => T;
	readonly logger: Logger;
}

/**
 * What some files say together, read again while the service runs. They are looked at rather than watched: what Kubernetes
 * mounts is swapped by a link further up, which no watcher tells of. Files without sense change nothing.
 */
export class RereadFiles<T> {
	readonly #options: RereadFilesOptions<T>;
	readonly #listeners: ((value: T) => void)[] = [];
	#value: T;
	/** Of the texts it was made of. */
	#hash: string;
	/** What was told last. */
	#problem: string | undefined;

	private constructor(options: RereadFilesOptions<T>, value: T, hash: string) {
		this.#options = options;
		this.#value = value;
		this.#hash = hash;
	}

	/** @throws AuditError `failed_precondition` if a file cannot be read, or there is no sense in them */
	static async open<T>(options: RereadFilesOptions<T>): Promise<RereadFiles<T>> {
		try {
			const { texts, hash } = await readAll(options.paths);
			return new RereadFiles(options, options.parse(texts), hash);
		} catch (cause) {
			throw new AuditError("failed_precondition", (cause as Error).message, { reason: "FILES_OF_NO_USE", cause });
		}
	}

	/** What they said when that last made sense. */
	get value(): T {
		return this.#value;
	}

	onChange(listener: (value: T) => void): void {
		this.#listeners.push(listener);
	}

	/** Reads them again. What is wrong with them is logged, once for as long as it is the same. */
	async reread(): Promise<void> {
		const { paths, parse, logger } = this.#options;
		let read = "";
		try {
			const { texts, hash } = await readAll(paths);
			read = hash;
			if (hash !== this.#hash) {
				this.#value = parse(texts);
				this.#hash = hash;
				for (const listener of this.#listeners) listener(this.#value);
				logger.info({ files: paths }, "changed files were read");
			}
			this.#problem = undefined;
		} catch (error) {
			const { message } = error as Error;
			const problem = `${read} ${message}`;
			if (problem !== this.#problem) {
				logger.error({ files: paths, problem: message }, "changed files are of no use; the old ones are kept");
			}
			this.#problem = problem;
		}
	}
}

async function readAll(paths: readonly string[]): Promise<{ texts: string[]; hash: string }> {
	const texts = await Promise.all(paths.map(readText));
	return { texts, hash: createHash("sha256").update(JSON.stringify(texts)).digest("hex") };
}

async function readText(path: string): Promise<string> {
	try {
		return await readFile(path, "utf8");
	} catch (error) {
		throw new Error(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
	}
}
