import { promisify } from "node:util";
import { constants, createZstdCompress, gzip } from "node:zlib";
import { ExportCompression } from "../gen/audit/v1/audit_service_pb.ts";

export interface Compression {
	/** Of a file's name, after that of its format. */
	readonly extension: string;
	/** Of the file; undefined: that of what is in it. */
	readonly mediaType: string | undefined;
	/** @param isResumed there are bytes of the file already, as far as the end of some `write` */
	open(isResumed: boolean): Compressor;
}

/** Compresses one file: after each `write` one can go on in another process. */
export interface Compressor {
	/** All of it comes back, so that what is there of the file can be decompressed. */
	write(bytes: Uint8Array): Promise<Uint8Array>;
	end(): Promise<Uint8Array>;
}

/** Every compression there is. One that is missing here does not compile. */
export const COMPRESSIONS: Readonly<Record<ExportCompression, Compression>> = {
	[ExportCompression.UNSPECIFIED]: { extension: "", mediaType: undefined, open: asItIs },
	[ExportCompression.NONE]: { extension: "", mediaType: undefined, open: asItIs },
	[ExportCompression.GZIP]: { extension: ".gz", mediaType: "application/gzip", open: inMembers },
	[ExportCompression.ZSTD]: { extension: ".zst", mediaType: "application/zstd", open: inOneFrame },
};

const NO_BYTES = new Uint8Array();

function asItIs(): Compressor {
	return { write: (bytes) => Promise.resolve(bytes), end: () => Promise.resolve(NO_BYTES) };
}

const gzipped = promisify(gzip);

/** Each piece becomes a member of its own: a file of several is as good as one of one (RFC 1952 2.2). */
function inMembers(isResumed: boolean): Compressor {
	let isEmpty = !isResumed;
	return {
		write(bytes) {
			isEmpty = false;
			return gzipped(bytes);
		},
		// Nothing, compressed, is not nothing.
		end: () => (isEmpty ? gzipped(NO_BYTES) : Promise.resolve(NO_BYTES)),
	};
}

/**
 * One frame, flushed after each piece: many readers take the first frame of a file for all of it. Who goes on ends the frame
 * that was broken off with an empty last block, and begins another.
 */
function inOneFrame(isResumed: boolean): Compressor {
	const zstd = createZstdCompress();
	const ready: Buffer[] = isResumed ? [LAST_BLOCK] : [];
	zstd.on("data", (bytes: Buffer) => void ready.push(bytes));
	const settled = (begin: (done: () => void) => void) =>
		new Promise<Uint8Array>((resolve, reject) => {
			zstd.once("error", reject);
			begin(() => {
				zstd.off("error", reject);
				resolve(Buffer.concat(ready.splice(0)));
			});
		});
	return {
		write: (bytes) =>
			settled((done) => {
				zstd.write(bytes);
				zstd.flush(constants.ZSTD_e_flush, done);
			}),
		end: () => settled((done) => void zstd.once("end", done).end()),
	};
}

/** RFC 8878 3.1.1.2: raw, of no bytes. */
const LAST_BLOCK = Buffer.of(1, 0, 0);
