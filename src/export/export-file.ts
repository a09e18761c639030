import type { ExportedRow } from "../storage/exported-row.ts";
import type { Point } from "../storage/point.ts";
import type { Compressor } from "./compression.ts";
import { Digest } from "./digest.ts";
import type { Writer } from "./formats.ts";
import type { Plan } from "./plan.ts";
import { invalidResumeToken, type Progress } from "./resume-token.ts";

/**
 * A file as it is being written: begun → rows are added → ended. Knows its length, its digest and how far it got, from its very
 * first byte, also where an earlier export wrote that.
 */
export class ExportFile {
	readonly point: Point;
	readonly #plan: Plan;
	readonly #writer: Writer;
	readonly #compressor: Compressor;
	/** Of the file, and of what is in it: the same where it is not compressed. */
	readonly #file: Digest;
	readonly #content: Digest;
	readonly #resumed: number;
	#place: Progress["place"];
	#events: bigint;

	private constructor(plan: Plan, point: Point, progress: Progress | undefined, file: Digest, content: Digest) {
		this.#plan = plan;
		this.point = point;
		this.#writer = plan.format.open(plan);
		this.#compressor = plan.compression.open(file.bytes > 0n);
		this.#file = file;
		this.#content = content;
		this.#place = progress?.place;
		this.#events = progress?.events ?? 0n;
		this.#resumed = progress ? progress.resumed + 1 : 0;
	}

	/** @param progress where an earlier export got to @throws AuditError invalid_argument if that is of another version */
	static async open(plan: Plan, point: Point, progress: Progress | undefined): Promise<ExportFile> {
		try {
			const file = await Digest.open(progress?.file);
			const content = plan.isCompressed ? await Digest.open(progress?.content) : file;
			return new ExportFile(plan, point, progress, file, content);
		} catch {
			throw invalidResumeToken();
		}
	}

	get place(): Progress["place"] {
		return this.#place;
	}

	get events(): bigint {
		return this.#events;
	}

	/** Its length so far. */
	get bytes(): bigint {
		return this.#file.bytes;
	}

	/** @returns the bytes that come next, here and below */
	async begin(): Promise<Uint8Array> {
		return this.#content.bytes === 0n ? this.#write(await this.#writer.begin()) : new Uint8Array();
	}

	/** @param next the place after these rows */
	async add(rows: readonly ExportedRow[], next: NonNullable<Progress["place"]>): Promise<Uint8Array> {
		const bytes = await this.#write(await this.#writer.rows(rows));
		this.#events += BigInt(rows.length);
		this.#place = next;
		return bytes;
	}

	/** @param manifest see Writer.end */
	async end(manifest: string): Promise<Uint8Array> {
		const last = await this.#write(await this.#writer.end(manifest));
		return Buffer.concat([last, this.#sent(await this.#compressor.end())]);
	}

	/** To be called when nothing more is asked of it. */
	async close(): Promise<void> {
		await this.#writer.close?.();
	}

	progress(): Progress {
		const { point } = this;
		const [file, content] = [this.#file.save(), this.#content.save()];
		return { point, place: this.#place, events: this.#events, resumed: this.#resumed, file, content };
	}

	/** Of the whole file. The last thing to ask for. */
	sums() {
		const file = { bytes: this.#file.bytes, sha256: this.#file.digest() };
		const content = this.#plan.isCompressed ? { bytes: this.#content.bytes, sha256: this.#content.digest() } : file;
		return {
			events: this.#events,
			bytes: file.bytes,
			sha256: file.sha256,
			contentBytes: content.bytes,
			contentSha256: content.sha256,
			resumed: this.#resumed,
		};
	}

	async #write(content: Uint8Array): Promise<Uint8Array> {
		if (content.byteLength === 0) return content;
		const bytes = await this.#compressor.write(content);
		if (this.#content !== this.#file) this.#content.update(content);
		return this.#sent(bytes);
	}

	#sent(bytes: Uint8Array): Uint8Array {
		this.#file.update(bytes);
		return bytes;
	}
}
