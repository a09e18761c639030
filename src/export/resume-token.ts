import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import type { EventId, Micros } from "../event/event.ts";
import type { Point } from "../storage/point.ts";
import { DIGEST_STATE_BYTES, type DigestState } from "./digest.ts";

/** How far an export got: all that another process needs to write the rest of the same file. */
export interface Progress {
	readonly point: Point;
	/** The last event gone past; undefined at the beginning. */
	readonly place: { readonly occurredAt: Micros; readonly id: EventId } | undefined;
	readonly events: bigint;
	readonly resumed: number;
	/** Of the file as it is sent, and of what is in it once it is decompressed. */
	readonly file: DigestState;
	readonly content: DigestState;
}

/*
 * A token is base64url of: version (1 byte), whether there is a place (1), times resumed (2), time of issue (8, ms), number (8),
 * time (8, µs) and link (32) of the point, occurred_at (8, µs) and id (16) of the place, events (8), for file and content length (8)
 * and digest (116), HMAC-SHA256 (32) over all of these and the request. It says nothing the caller has not seen.
 */
const VERSION = 1;
const BODY_BYTES = 92 + 2 * (8 + DIGEST_STATE_BYTES);
const VALID_MS = 30 * 24 * 60 * 60 * 1000;

/**
 * @param bound all of the request that must stay the same, as text
 * @param now milliseconds since 1970
 */
export function issueResumeToken(key: KeyObject, bound: string, progress: Progress, now: number): string {
	const { point, place, events, resumed, file, content } = progress;
	const body = Buffer.alloc(BODY_BYTES);
	body.writeUInt8(VERSION, 0);
	body.writeUInt8(place ? 1 : 0, 1);
	body.writeUInt16BE(Math.min(resumed, 0xffff), 2);
	body.writeBigInt64BE(BigInt(now), 4);
	body.writeBigInt64BE(point.batchNo, 12);
	body.writeBigInt64BE(point.committedAt, 20);
	body.set(point.chain, 28);
	body.writeBigInt64BE(place?.occurredAt ?? 0n, 60);
	body.write(place?.id.replaceAll("-", "") ?? "", 68, "hex");
	body.writeBigInt64BE(events, 84);
	let at = 92;
	for (const { bytes, state } of [file, content]) {
		body.writeBigInt64BE(bytes, at);
		body.set(state, at + 8);
		at += 8 + DIGEST_STATE_BYTES;
	}
	return Buffer.concat([body, authenticate(key, body, bound)]).toString("base64url");
}

/**
 * @param now milliseconds since 1970
 * @throws AuditError invalid_argument, with one text for every reason: a forger learns nothing
 */
export function openResumeToken(key: KeyObject, bound: string, token: string, now: number): Progress {
	const bytes = Buffer.from(token, "base64url");
	// Node's decoder skips what is not base64url and ignores spare bits: only the spelling we issue is ours.
	if (bytes.length !== BODY_BYTES + 32 || bytes.toString("base64url") !== token) throw invalidResumeToken();
	const body = bytes.subarray(0, BODY_BYTES);
	if (!timingSafeEqual(bytes.subarray(BODY_BYTES), authenticate(key, body, bound))) throw invalidResumeToken();
	if (body.readUInt8(0) !== VERSION || now - Number(body.readBigInt64BE(4)) > VALID_MS) throw invalidResumeToken();
	const id = body.toString("hex", 68, 84).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
	const digestAt = (at: number) => ({
		bytes: body.readBigInt64BE(at),
		state: body.subarray(at + 8, at + 8 + DIGEST_STATE_BYTES),
	});
	return {
		point: {
			batchNo: body.readBigInt64BE(12),
			committedAt: body.readBigInt64BE(20) as Micros,
			chain: body.subarray(28, 60),
		},
		place: body.readUInt8(1) === 1 ? { occurredAt: body.readBigInt64BE(60) as Micros, id: id as EventId } : undefined,
		events: body.readBigInt64BE(84),
		resumed: body.readUInt16BE(2),
		file: digestAt(92),
		content: digestAt(100 + DIGEST_STATE_BYTES),
	};
}

/** The beginning tells these from page tokens, which are made with the same key. */
function authenticate(key: KeyObject, body: Buffer, bound: string): Buffer {
	return createHmac("sha256", key).update("export\0").update(body).update(bound).digest();
}

export function invalidResumeToken() {
	const message =
		"is not the resume_token of an export with this tenant, these filters, order, format and columns, or older than 30 days";
	return invalidArgument([{ field: "resume_token", message }], "INVALID_RESUME_TOKEN");
}
