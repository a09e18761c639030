import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { invalidArgument } from "../errors.ts";
import type { CallBounds } from "./call-bounds.ts";
import { malformedRequest, requestTooLarge } from "./errors.ts";
import { RPC_LIMITS } from "./limits.ts";

const gunzipped = promisify(gunzip);

/**
 * Reads a request's body whole.
 *
 * @param encoding the request's `content-encoding`
 * @throws AuditError if it is too large before or after decompression, or no gzip
 */
export async function readBody(bounds: CallBounds, encoding = "identity"): Promise<Uint8Array> {
	const coding = encoding.toLowerCase();
	if (coding !== "identity" && coding !== "gzip") {
		throw invalidArgument(
			[{ field: "content-encoding", message: "must be gzip, or absent" }],
			"UNSUPPORTED_COMPRESSION",
		);
	}
	const isCompressed = coding === "gzip";
	const bytes = await bounds.readBody({ maxBytes: RPC_LIMITS.requestBytes, isCompressed });
	if (!isCompressed) return bytes;
	return gunzipped(bytes, { maxOutputLength: RPC_LIMITS.requestBytes }).catch((error: NodeJS.ErrnoException) => {
		if (error.code === "ERR_BUFFER_TOO_LARGE") throw requestTooLarge();
		throw malformedRequest([{ field: "body", message: "is not valid gzip" }]);
	});
}
