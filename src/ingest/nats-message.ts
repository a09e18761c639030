import type { MsgHdrs } from "nats";
import type { Violation } from "../errors.ts";
import { isTenantId } from "../event/admit.ts";
import { decodeBatchBinary, decodeBatchJson, decodeEventBinary, decodeEventJson } from "../event/decode.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import type { DeadLetter, Origin, Refusal } from "../storage/dead-letters.ts";
import type { MessageItem } from "./ingest.ts";
import { EVENTS_SUBJECT } from "./nats-stream.ts";

/** A message as JetStream delivers it. */
export interface IncomingMessage {
	readonly subject: string;
	/** Where to acknowledge; it also says which message of the stream this is, and since when it is there. */
	readonly reply?: string | undefined;
	readonly headers?: MsgHdrs | undefined;
	readonly data: Uint8Array;
}

/**
 * Takes a message apart into its events. Total: whatever cannot become an event becomes an item with a refusal, never an
 * exception. A message gives one item at least.
 *
 * The subject binds the tenant (`audit.events.<tenant>`); the headers `Audit-Type` and `Content-Type` say what the body
 * is: an event or a batch, protobuf or JSON.
 *
 * @param streamCreated when the stream the message is in was created
 */
export function decodeMessage(message: IncomingMessage, streamCreated: Date): MessageItem[] {
	const { streamSeq, publishedAt } = placeOf(message.reply ?? "");
	const { headers, headersOk } = readHeaders(message);
	const subject = storable(message.subject);
	return decodeBody(
		{
			streamCreated,
			streamSeq,
			position: 0,
			subject,
			headers,
			body: message.data,
			isPart: false,
			publishedAt,
			tenantId: tenantOfSubject(subject),
		},
		headersOk,
	);
}

/**
 * Takes apart what was a dead letter, as it was taken apart when it came: the same bytes under the same rules, in the same
 * place of the stream, so whatever is made of it is what the message would have become.
 */
export function decodeLetter(letter: DeadLetter): MessageItem[] {
	const { reason } = letter;
	const origin: Origin = { ...letter, tenantId: tenantOfSubject(letter.subject) };
	// Headers that could not be read were not kept: nobody knows what they said of the body.
	if (!origin.isPart) return decodeBody(origin, reason !== UNDECODABLE_HEADERS);
	// It was read as what its batch was: where the bytes of one event do not tell that, the reason does.
	const looksLikeJson = isJson(origin.headers, origin.body);
	return decodeOne(origin, reason === "UNDECODABLE_JSON" || (looksLikeJson && reason !== "UNDECODABLE_PROTOBUF"));
}

function decodeBody(origin: Origin, headersOk: boolean): MessageItem[] {
	const { headers, body } = origin;
	const refuse = (reason: string, what: string, violations: readonly Violation[] = []): MessageItem[] => [
		{ origin, input: undefined, refusal: { reason, message: what, violations } },
	];
	if (boundTenant(origin.subject) === "none") {
		return refuse("UNKNOWN_SUBJECT", `the subject must be ${EVENTS_SUBJECT} or ${EVENTS_SUBJECT}.<tenant>`);
	}
	if (!headersOk) return refuse(UNDECODABLE_HEADERS, "a header's name holds characters that names may not have");
	const type = valueOf(headers, "audit-type") ?? "event";
	const json = isJson(headers, body);
	try {
		if (type === "event") return decodeOne(origin, json);
		if (type === "batch") return decodeBatch(origin, json, refuse);
	} catch {
		// Not reached by any input known; if the decoders ever throw, that must not stop every message behind this one.
		return [{ origin, input: undefined, refusal: undecodable(json, []) }];
	}
	return refuse("UNKNOWN_AUDIT_TYPE", "the header Audit-Type must be event or batch, once, or absent");
}

/**
 * Which message of its stream this is. The last tokens of `$JS.ACK.….<deliveries>.<stream seq>.<consumer seq>.<nanos>.<pending>`
 * are read here rather than by the client library, which takes nanoseconds for a double and so rounds them.
 */
export function placeOf(reply: string): { streamSeq: bigint; publishedAt: Micros } {
	const tokens = reply.split(".");
	// Newer servers put domain and account before the stream's name, and something random at the very end.
	const seqAt = tokens.length > 9 ? 7 : 5;
	const [seq, nanos] = [tokens[seqAt], tokens[seqAt + 2]];
	if (!reply.startsWith("$JS.ACK.") || seq === undefined || nanos === undefined) {
		throw new Error("the message did not come from a JetStream consumer");
	}
	return { streamSeq: BigInt(seq), publishedAt: (BigInt(nanos) / 1000n) as Micros };
}

const UNDECODABLE_HEADERS = "UNDECODABLE_HEADERS";

function tenantOfSubject(subject: string): TenantId | undefined {
	const bound = boundTenant(subject);
	return bound === "any" || bound === "none" ? undefined : bound;
}

/** The tenant a subject binds; `any` for the bare subject of trusted producers; `none`: not a subject of ours. */
function boundTenant(subject: string): TenantId | "any" | "none" {
	if (subject === EVENTS_SUBJECT) return "any";
	const token = subject.startsWith(`${EVENTS_SUBJECT}.`) ? subject.slice(EVENTS_SUBJECT.length + 1) : "";
	// A token that is no tenant id must not pass as unbound: its producer would name any tenant it liked.
	return isTenantId(token) && !token.includes(".") ? token : "none";
}

/** The library checks names when the headers are first looked at, and throws. */
function readHeaders(message: IncomingMessage): { headers: Record<string, string[]>; headersOk: boolean } {
	try {
		const entries = [...(message.headers ?? [])];
		const headers = Object.fromEntries(entries.map(([name, values]) => [storable(name), values.map(storable)]));
		return { headers, headersOk: true };
	} catch {
		return { headers: {}, headersOk: false };
	}
}

/** A header's value, whatever the case of its name; "" if it is given more than once. */
function valueOf(headers: Record<string, string[]>, name: string): string | undefined {
	const values = Object.entries(headers).flatMap(([key, value]) => (key.toLowerCase() === name ? value : []));
	return values.length > 1 ? "" : values[0];
}

/** No protobuf event begins with `{`: it would be field 15 as a group, which it is not. */
function isJson(headers: Record<string, string[]>, body: Uint8Array): boolean {
	const mediaType = valueOf(headers, "content-type")?.split(";")[0]?.trim().toLowerCase();
	return mediaType === "application/json" || body[0] === 0x7b;
}

function decodeOne(origin: Origin, json: boolean): MessageItem[] {
	const decoded = json ? decodeEventJson(origin.body) : decodeEventBinary(origin.body);
	if (decoded.ok) return [{ origin, input: decoded.input }];
	return [{ origin, input: undefined, refusal: undecodable(json, decoded.violations) }];
}

function decodeBatch(
	origin: Origin,
	json: boolean,
	refuse: (reason: string, what: string, violations?: readonly Violation[]) => MessageItem[],
): MessageItem[] {
	const batch = json ? decodeBatchJson(origin.body) : decodeBatchBinary(origin.body);
	if (!batch.ok) return [{ origin, input: undefined, refusal: undecodable(json, batch.violations) }];
	const size = [{ field: "events", message: `must hold 1 to ${LIMITS.batchEvents} events` }];
	if (batch.items.length === 0) return refuse("EMPTY_BATCH", "the batch holds no events", size);
	if (batch.items.length > LIMITS.batchEvents) {
		return refuse("BATCH_TOO_LARGE", `the batch holds more than ${LIMITS.batchEvents} events`, size);
	}
	return batch.items.map(({ source, decoded }, position) => {
		const itemOrigin = { ...origin, position, body: source, isPart: true };
		if (decoded.ok) return { origin: itemOrigin, input: decoded.input };
		return { origin: itemOrigin, input: undefined, refusal: undecodable(json, decoded.violations) };
	});
}

function undecodable(json: boolean, violations: readonly Violation[]): Refusal {
	const [first] = violations;
	const where = first?.field ? `${first.field} ` : "the body ";
	return {
		reason: json ? "UNDECODABLE_JSON" : "UNDECODABLE_PROTOBUF",
		message: `${where}${first?.message ?? "cannot be read"}`,
		violations,
	};
}

/** PostgreSQL keeps no U+0000 in text; a subject or header that has one must not keep its dead letter out. */
function storable(text: string): string {
	return text.replaceAll("\0", "\uFFFD");
}
