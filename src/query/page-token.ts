import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import type { EventId, Micros } from "../event/event.ts";
import { canonicalText } from "./asked.ts";
import type { Search } from "./filter.ts";

/** A place between two events in the order of (`occurred_at`, `id`): right after this one, in the search's direction. */
export interface Cursor {
	readonly occurredAt: Micros;
	readonly id: EventId;
}

/** What is gone through page by page: a search, or whatever else has pages. */
export type Paged = Pick<Search, "pageSize"> & Partial<Pick<Search, "masked">>;

/*
 * A token is base64url of: version (1 byte), occurred_at (8, µs), id (16), time of issue (8, ms), HMAC-SHA256 (32) over
 * all of these and the search. It says nothing the caller has not seen. The key is derived from the root secret, so any
 * replica, today or after a restart, can check it.
 */
const VERSION = 1;
const BODY_BYTES = 33;
const TOKEN_BYTES = BODY_BYTES + 32;
const VALID_MS = 30 * 24 * 60 * 60 * 1000;

/** @param now milliseconds since 1970 */
export function issuePageToken(key: KeyObject, search: Paged, cursor: Cursor, now: number): string {
	const body = Buffer.alloc(BODY_BYTES);
	body.writeUInt8(VERSION, 0);
	body.writeBigInt64BE(cursor.occurredAt, 1);
	body.write(cursor.id.replaceAll("-", ""), 9, "hex");
	body.writeBigInt64BE(BigInt(now), 25);
	return Buffer.concat([body, authenticate(key, body, search)]).toString("base64url");
}

/**
 * @param now milliseconds since 1970
 * @throws AuditError invalid_argument, with one text for every reason: a forger learns nothing
 */
export function openPageToken(key: KeyObject, search: Paged, token: string, now: number): Cursor {
	const bytes = Buffer.from(token, "base64url");
	// Node's decoder skips what is not base64url and ignores spare bits: only the spelling we issue is ours.
	if (bytes.length !== TOKEN_BYTES || bytes.toString("base64url") !== token) throw invalidPageToken();
	const body = bytes.subarray(0, BODY_BYTES);
	if (!timingSafeEqual(bytes.subarray(BODY_BYTES), authenticate(key, body, search))) throw invalidPageToken();
	if (body.readUInt8(0) !== VERSION || now - Number(body.readBigInt64BE(25)) > VALID_MS) throw invalidPageToken();
	const id = body.toString("hex", 9, 25).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
	return { occurredAt: body.readBigInt64BE(1) as Micros, id: id as EventId };
}

function authenticate(key: KeyObject, body: Buffer, search: Paged): Buffer {
	// The body's length is fixed, so body and search cannot run into each other.
	return createHmac("sha256", key).update(body).update(searchText(search)).digest();
}

/**
 * All that must stay the same from page to page, as text: everything in a Search but the page size and what is masked, so
 * that a filter added later is bound without anybody thinking of it. Filters not given are not in it, so that tokens outlive the
 * release that adds one.
 */
function searchText(search: Paged): string {
	const { pageSize: _, masked: __, ...bound } = search;
	return canonicalText(bound);
}

function invalidPageToken() {
	const message =
		"is not the next_page_token of a search with this tenant, these filters and this order, or older than 30 days";
	return invalidArgument([{ field: "page_token", message }], "INVALID_PAGE_TOKEN");
}
