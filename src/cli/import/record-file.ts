import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { CommandError } from "../command-line.ts";
import { prepend, type RecordText, splitRecords } from "./split-records.ts";

/** A file of records (or standard input), read once, in memory that does not grow with it. */
export class RecordFile {
	/** Bytes read so far, and in all (undefined: not known), as they are on disk: for the progress bar. */
	bytesRead = 0;
	readonly bytes: number | undefined;
	readonly #source: Readable;

	private constructor(source: Readable, bytes: number | undefined) {
		this.#source = source;
		this.bytes = bytes;
	}

	/** @param path `-` stands for `stdin` */
	static async open(path: string, stdin: Readable): Promise<RecordFile> {
		if (path === "-") return new RecordFile(stdin, undefined);
		const info = await stat(path);
		if (info.isDirectory()) throw new CommandError(`${path} is a folder: name a file in it`);
		return new RecordFile(createReadStream(path, { highWaterMark: 256 * 1024 }), info.isFile() ? info.size : undefined);
	}

	/** The records in order; gunzipped first if the file begins as gzip does, whatever its name. */
	async *records(): AsyncGenerator<RecordText> {
		try {
			yield* splitRecords(gunzipped(this.#counted()));
		} catch (error) {
			const { code, message } = error as NodeJS.ErrnoException;
			if (!code) throw error;
			// Cut off or damaged: what came before is as good as any.
			yield { place: "the file", problem: `cannot be read to its end (${message})` };
		}
	}

	async *#counted(): AsyncGenerator<Buffer> {
		for await (const chunk of this.#source) {
			this.bytesRead += (chunk as Buffer).length;
			yield chunk as Buffer;
		}
	}
}

async function* gunzipped(chunks: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
	let head = Buffer.alloc(0);
	while (head.length < 2) {
		const next = await chunks.next();
		if (next.done) break;
		head = Buffer.concat([head, next.value]);
	}
	const whole = prepend(head, chunks);
	if (head[0] !== 0x1f || head[1] !== 0x8b) yield* whole;
	// An error of the source destroys the gunzip with it: the reader meets it there, so there is nothing left to handle.
	else yield* pipeline(Readable.from(whole), createGunzip(), () => {}) as AsyncIterable<Buffer>;
}
