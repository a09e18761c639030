/** One record's text, or why it is none, and where it stands: `line 3`, or `record 3` of a `{"Records": […]}` file. */
export type RecordText = { place: string; text: string } | { place: string; problem: string };

/** Longer records are skipped: an event may hold a quarter of this, and memory must not grow with the input. */
const MAX_RECORD_BYTES = 1024 * 1024;
const TOO_LONG = "is longer than 1 MiB; an event may hold 256 KiB";

/** Splits input into records: one a line, or the elements of the array in `{"Records": […]}` as AWS delivers files. */
export async function* splitRecords(chunks: AsyncGenerator<Buffer>): AsyncGenerator<RecordText> {
	let head = Buffer.alloc(0);
	while (head.length < 1024) {
		const next = await chunks.next();
		if (next.done) break;
		head = Buffer.concat([head, next.value]);
	}
	const array = /^\uFEFF?\s*\{\s*"Records"\s*:\s*\[/.exec(head.toString("utf8", 0, 1024));
	if (!array) yield* splitLines(head, chunks);
	else yield* splitArray(head.subarray(Buffer.byteLength(array[0])), chunks);
}

async function* splitLines(head: Buffer, rest: AsyncGenerator<Buffer>): AsyncGenerator<RecordText> {
	const pending = new PendingRecord();
	let line = 1;
	for await (const chunk of prepend(head, rest)) {
		let from = 0;
		for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
			pending.append(chunk.subarray(from, end));
			yield* pending.take(`line ${line}`);
			line += 1;
			from = end + 1;
		}
		pending.append(chunk.subarray(from));
	}
	yield* pending.take(`line ${line}`);
}

/** Finds where objects begin and end by counting braces outside of strings; what is inside, JSON.parse will say. */
async function* splitArray(head: Buffer, rest: AsyncGenerator<Buffer>): AsyncGenerator<RecordText> {
	const pending = new PendingRecord();
	let record = 1;
	let depth = 0;
	let inString = false;
	let escaped = false;
	for await (const chunk of prepend(head, rest)) {
		let from = 0;
		for (let at = 0; at < chunk.length; at += 1) {
			const byte = chunk[at];
			if (inString) {
				if (escaped) escaped = false;
				else if (byte === BACKSLASH) escaped = true;
				else if (byte === QUOTE) inString = false;
			} else if (byte === QUOTE) inString = true;
			else if (byte === OPEN) {
				if (depth === 0) from = at;
				depth += 1;
			} else if (byte === CLOSE && depth > 0) {
				depth -= 1;
				if (depth > 0) continue;
				pending.append(chunk.subarray(from, at + 1));
				yield* pending.take(`record ${record}`);
				record += 1;
			} else if (byte === CLOSE_ARRAY && depth === 0) return;
		}
		if (depth > 0) pending.append(chunk.subarray(from));
	}
	yield { place: `record ${record}`, problem: "the file ends before its array of records does" };
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN = 0x7b;
const CLOSE = 0x7d;
const CLOSE_ARRAY = 0x5d;

/** A record put together from the chunks it is spread over, and forgotten once it is too long. */
class PendingRecord {
	#parts: Buffer[] = [];
	#bytes = 0;

	append(part: Buffer): void {
		this.#bytes += part.length;
		if (this.#bytes > MAX_RECORD_BYTES) this.#parts = [];
		else if (part.length > 0) this.#parts.push(part);
	}

	/** The record, if there is more than white space, and begins the next. */
	*take(place: string): Generator<RecordText> {
		const bytes = this.#bytes;
		const whole = Buffer.concat(this.#parts);
		this.#parts = [];
		this.#bytes = 0;
		if (bytes > MAX_RECORD_BYTES) {
			yield { place, problem: TOO_LONG };
			return;
		}
		try {
			const text = UTF_8.decode(whole);
			if (text.trim() !== "") yield { place, text };
		} catch {
			yield { place, problem: "is not UTF-8" };
		}
	}
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true });

/** The chunks again, with those already looked at in front. */
export async function* prepend(head: Buffer, rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
	yield head;
	yield* rest;
}
