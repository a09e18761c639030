import { create, fromJsonString, type MessageInitShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { EventSchema } from "../../../src/gen/audit/v1/event_pb.ts";

/** An event as it is sent: as JSON, as protobuf, or as both where both can say it. */
export interface Forms {
	readonly json?: string;
	readonly bytes?: Uint8Array;
}

/** One input, and what must become of it wherever it is sent. */
export interface EventRow {
	/** Its number in the catalogue. */
	readonly row: number;
	readonly what: string;
	readonly event: Forms;
	/** Absent: it is taken. */
	readonly refused?: Refused;
	/** It is sent as it is, at every door the same, and not looked for afterwards. */
	readonly asItIs?: boolean;
	/** What an event that is taken holds when it comes back, as JSON text of its canonical form. */
	readonly comesBack?: readonly string[];
}

export interface Refused {
	/** `malformed`: it cannot be read as an event. `invalid`: it breaks the rules for events. `syntax`: it is no JSON at all. */
	readonly kind: "malformed" | "invalid" | "syntax";
	/** The paths of all violations, from the event on; "" is the event. */
	readonly fields: readonly string[];
	/** What the first violation says. */
	readonly says?: RegExp;
}

export const malformed = (...paths: string[]) => ({ kind: "malformed", fields: paths }) as const;
export const invalid = (...paths: string[]) => ({ kind: "invalid", fields: paths }) as const;

/** The name that an event has if its row is not about that. Sent again under another, it is another event. */
export const ACTION = "bad.input";
export const TENANT = "acme";

type Init = MessageInitShape<typeof EventSchema>;

/** A good event, but for these fields. */
export function fields(init: Init): Forms {
	const event = create(EventSchema, Object.assign<Init, Init>({ ...GOOD }, init));
	return { json: toJsonString(EventSchema, event), bytes: toBinary(EventSchema, event) };
}

/** The same, for what only protobuf can say. */
export function inProtobuf(init: Init): Forms {
	return { bytes: toBinary(EventSchema, create(EventSchema, Object.assign<Init, Init>({ ...GOOD }, init))) };
}

/** A good event with more members, given as the JSON text they are. */
export function inJson(members: string): Forms {
	return { json: `{${GOOD_MEMBERS},${members}}` };
}

/** A good event with more members that both forms can say. */
export function inBoth(members: string): Forms {
	const { json = "" } = inJson(members);
	return { json, bytes: toBinary(EventSchema, fromJsonString(EventSchema, json)) };
}

/** A good event with more bytes after it. */
export function withBytes(...more: Uint8Array[]): Forms {
	return { bytes: Buffer.concat([toBinary(EventSchema, create(EventSchema, GOOD)), ...more]) };
}

/** A field that holds bytes: a text or a message. */
export function lengthDelimited(number: number, ...bytes: Uint8Array[]): Uint8Array {
	return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(Buffer.concat(bytes)).finish();
}

export function varint(number: number, value: number | bigint): Uint8Array {
	return new BinaryWriter().tag(number, WireType.Varint).int64(value.toString()).finish();
}

export function utf8(text: string): Uint8Array {
	return Buffer.from(text);
}

export const now = () => ({ seconds: BigInt(Math.floor(Date.now() / 1000)), nanos: 0 });

const GOOD: Init = { tenantId: TENANT, action: ACTION, actor: { id: "jane" } };
const GOOD_MEMBERS = `"tenant_id":"${TENANT}","action":"${ACTION}","actor":{"id":"jane"}`;
