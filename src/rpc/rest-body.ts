import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { AuditError, invalidArgument } from "../errors.ts";
import { RPC_LIMITS } from "./limits.ts";

const gunzipped = promisify(gunzip);

/** The reason of the one error whose status is not its code's. */
export const BODY_TOO_LARGE = "REQUEST_TOO_LARGE";

/**
 * Reads a request's body whole.
 *
 * @param encoding the request's `content-encoding`
 * @throws AuditError if it is too large before or after decompression, or no gzip
 */
export async function readBody(body: AsyncIterable<Uint8Array>, encoding: string | undefined): Promise<Uint8Array> {
	if (encoding !== undefined && encoding !== "identity" && encoding !== "gzip") {
		throw invalidArgument(
			[{ field: "content-encoding", message: "must be gzip, or absent" }],
			"UNSUPPORTED_COMPRESSION",
		);
	}
	const chunks: Uint8Array[] = [];
	let size = 0;
	for await (const chunk of body) {
		size += chunk.byteLength;
		if (size > RPC_LIMITS.requestBytes) throw tooLarge();
		chunks.push(chunk);
	}
	const bytes = Buffer.concat(chunks);
	if (encoding !== "gzip") return bytes;
	return gunzipped(bytes, { maxOutputLength: RPC_LIMITS.requestBytes }).catch((error: NodeJS.ErrnoException) => {
		if (error.code === "ERR_BUFFER_TOO_LARGE") throw tooLarge();
		throw invalidArgument([{ field: "", message: "the request is not valid gzip" }], "MALFORMED_REQUEST");
	});
}

function tooLarge(): AuditError {
	return new AuditError("resource_exhausted", `the request is larger than ${RPC_LIMITS.requestBytes} bytes`, {
		reason: BODY_TOO_LARGE,
	});
}
