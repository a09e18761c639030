import { gunzipSync } from "node:zlib";
import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { Violation } from "../errors.ts";
import { findMalformed } from "../event/wire-shape.ts";
import { malformedRequest } from "./errors.ts";
import { RPC_LIMITS } from "./limits.ts";

/** A call's body as it was sent, until it has been read as a message. */
export const bodyKey = createContextKey<Uint8Array | undefined>(undefined);

/** What gRPC puts around a message: a byte of flags and four of length. */
export const ENVELOPE_BYTES = 5;

/** The flags before a message say whether it is compressed and nothing else; Connect does not look at the others. */
export function refuseReservedFlags(body: Uint8Array): void {
	if (((body[0] ?? 0) & ~1) === 0) return;
	throw malformedRequest([{ field: "request", message: "has reserved flags before its message" }]);
}

/** Finds where the body of a call that Connect could not read stops being its request. Connect itself does not say. */
export function findMalformedIn(context: HandlerContext): Violation {
	const body = context.values.get(bodyKey) ?? new Uint8Array();
	const isConnect = context.protocolName === "connect";
	const isCompressed = isConnect ? context.requestHeader.has("content-encoding") : ((body[0] ?? 0) & 1) === 1;
	const message = isConnect ? body : body.subarray(ENVELOPE_BYTES);
	// Connect has unpacked it before it could not read it: it is gzip, and not too large.
	return findMalformed(context.method.input, isCompressed ? unpacked(message) : message);
}

function unpacked(message: Uint8Array): Uint8Array {
	try {
		return gunzipSync(message, { maxOutputLength: RPC_LIMITS.requestBytes });
	} catch {
		// `content-encoding: identity`, which is no compression.
		return message;
	}
}
