import { connect, type Socket } from "node:net";

/** Frame types, flags and codes of RFC 9113, as far as tests say them by hand. */
export const TYPE = { data: 0, headers: 1, rst: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8, continuation: 9 };
export const FLAG = { ack: 1, endStream: 1, endHeaders: 4 };
export const CODE = { noError: 0, internal: 2, refusedStream: 7, cancel: 8, enhanceYourCalm: 11 };

export interface Frame {
	readonly type: number;
	readonly flags: number;
	readonly stream: number;
	readonly payload: Buffer;
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
	const head = Buffer.alloc(9);
	head.writeUIntBE(payload.length, 0, 3);
	head[3] = type;
	head[4] = flags;
	head.writeUInt32BE(stream, 5);
	return Buffer.concat([head, payload]);
}

/** HPACK, as plain as can be: every field literal, nothing indexed, no Huffman coding. */
export function headerBlock(fields: Readonly<Record<string, string>>): Buffer {
	const text = (value: string) => Buffer.concat([length(value.length), Buffer.from(value, "latin1")]);
	return Buffer.concat(Object.entries(fields).flatMap(([name, value]) => [Buffer.of(0x10), text(name), text(value)]));
}

/** RFC 7541 5.1, with a prefix of 7 bits. */
function length(value: number): Buffer {
	if (value < 127) return Buffer.of(value);
	const bytes = [127];
	let rest = value - 127;
	for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128);
	return Buffer.from([...bytes, rest]);
}

export function requestHeaders(path: string, more: Readonly<Record<string, string>> = {}): Buffer {
	return headerBlock({ ":method": "GET", ":scheme": "http", ":path": path, ":authority": "localhost", ...more });
}

/** An HTTP/2 peer that says exactly what it is told, and nothing by itself but the preface. */
export class RawHttp2 {
	readonly socket: Socket;
	readonly frames: Frame[] = [];
	/** Resolves when the service has ended the connection. */
	readonly ended: Promise<void>;
	#rest = Buffer.alloc(0);

	constructor(url: string, settings: Uint8Array = Buffer.alloc(0)) {
		// It does not close its end by itself, either.
		this.socket = connect({ port: Number(new URL(url).port), host: "127.0.0.1", allowHalfOpen: true });
		this.ended = new Promise((resolve) => this.socket.once("end", resolve).once("close", resolve));
		this.socket.on("error", () => {});
		this.socket.on("data", (bytes) => this.#read(bytes));
		this.socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
		this.socket.write(frame(TYPE.settings, 0, 0, settings));
	}

	write(...bytes: Uint8Array[]): void {
		this.socket.write(Buffer.concat(bytes));
	}

	/** Every frame of a type that has come so far. */
	of(type: number): Frame[] {
		return this.frames.filter((one) => one.type === type);
	}

	/** The GOAWAY frames so far: the last stream each one names, and its code. */
	get goaways(): { last: number; code: number }[] {
		return this.of(TYPE.goaway).map(({ payload }) => ({
			last: payload.readUInt32BE(0),
			code: payload.readUInt32BE(4),
		}));
	}

	#read(bytes: Buffer): void {
		this.#rest = Buffer.concat([this.#rest, bytes]);
		while (this.#rest.length >= 9) {
			const end = 9 + this.#rest.readUIntBE(0, 3);
			if (this.#rest.length < end) return;
			const [, , , type = 0, flags = 0] = this.#rest;
			const stream = this.#rest.readUInt32BE(5);
			this.frames.push({ type, flags, stream, payload: this.#rest.subarray(9, end) });
			this.#rest = this.#rest.subarray(end);
		}
	}
}
