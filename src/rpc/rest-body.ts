import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { AuditError, invalidArgument } from "../errors.ts";
import type { CallBounds } from "./call-bounds.ts";
import { malformedRequest, requestTooLarge, UNSUPPORTED_MEDIA_TYPE } from "./errors.ts";
import { RPC_LIMITS } from "./limits.ts";

const gunzipped = promisify(gunzip);

/**
 * Reads a request's body whole.
 *
 * @param type the request's `content-type`. JSON must be called that: other types, or none, a browser sends for any page
 * without asking first
 * @param encoding the request's `content-encoding`
 * @throws AuditError if it is called something else than JSON, too large before or after decompression, or no gzip
 */
export async function readBody(
	bounds: CallBounds,
	{ type = "", encoding = "identity" }: { type: string | undefined; encoding: string | undefined },
): Promise<Uint8Array> {
	if (!/^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(type)) {
		throw new AuditError("invalid_argument", "the content type must be application/json", {
			reason: UNSUPPORTED_MEDIA_TYPE,
		});
	}
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
