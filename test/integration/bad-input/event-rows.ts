import type { JsonObject } from "@bufbuild/protobuf";
import { Outcome, Severity } from "../../../src/gen/audit/v1/event_pb.ts";
import {
	type EventRow,
	fields,
	inBoth,
	inJson,
	inProtobuf,
	invalid,
	lengthDelimited,
	malformed,
	now,
	utf8,
	varint,
	withBytes,
} from "./event-forms.ts";

const V4 = "6f1a4b58-3d3b-4b43-9f0e-3b1f6a0c2d11";
const NIL = "00000000-0000-0000-0000-000000000000";
const secondsFromNow = (seconds: number) => ({ seconds: now().seconds + BigInt(seconds), nanos: 0 });
const DAY = 86_400;

const nested = (depth: number): JsonObject => (depth === 1 ? { n: 1 } : { n: nested(depth - 1) });
const pathOf = (depth: number) => `metadata${".n".repeat(depth)}`;
/** A member of a Struct: `value` is the bytes of a Value. */
const member = (key: string, value: Uint8Array) =>
	lengthDelimited(1, lengthDelimited(1, utf8(key)), lengthDelimited(2, value));
const metadata = (...members: Uint8Array[]) => withBytes(lengthDelimited(14, ...members));
const nestedValue = (depth: number): Uint8Array =>
	depth === 0 ? varint(4, 1) : lengthDelimited(5, member("n", nestedValue(depth - 1)));

/** Events that can be read. */
export const CONTENT: readonly EventRow[] = [
	{ row: 49, what: "no action", event: fields({ action: "" }), refused: invalid("action") },
	{ row: 49, what: "no actor", event: { json: '{"tenant_id":"acme","action":"a.b"}' }, refused: invalid("actor") },
	{
		row: 49,
		what: "an actor without id",
		event: fields({ actor: { displayName: "x" } }),
		refused: invalid("actor.id"),
	},
	{
		row: 50,
		what: "U+0000 wherever there is text",
		event: fields({
			action: "a\0b",
			source: "\0",
			actor: { id: "a\0", displayName: "\0" },
			primaryResource: { id: "r", type: "\0" },
			description: "s3cret\0",
			changes: { changedFields: ["ok", "\0"], newValue: { a: "\0" } },
			metadata: { list: ["\0"], "k\0": 1 },
		}),
		refused: invalid(
			"action",
			"actor.id",
			"actor.display_name",
			"primary_resource.type",
			"source",
			"description",
			"changes.changed_fields[1]",
			"changes.new_value.a",
			'metadata."k\\u0000"',
			"metadata.list[0]",
		),
	},
	{
		row: 51,
		what: "a lone surrogate in a text",
		event: inJson('"description":"s3cret\\ud800"'),
		refused: malformed("description"),
	},
	{
		row: 51,
		what: "a lone surrogate in the metadata",
		event: inJson('"metadata":{"a":"s3cret\\udfff","b\\ud800":1}'),
		refused: invalid("metadata.a", 'metadata."b\ufffd"'),
	},
	{
		row: 52,
		what: "control characters in identifiers",
		event: fields({
			actor: { id: "s3cret\r\nx", email: "a\u007fb" },
			source: "\u009b31m",
			context: { requestId: "\u0085", traceId: "\t" },
		}),
		refused: invalid("actor.id", "actor.email", "source", "context.request_id", "context.trace_id"),
	},
	{
		row: 52,
		what: "control characters in texts for people",
		event: fields({ description: "line 1\r\nline 2\t\u001b[31mred\u0085" }),
		comesBack: ['"description":"line 1\\r\\nline 2\\t\\u001b[31mred\u0085"'],
	},
	{
		row: 53,
		what: "text that is dangerous to show",
		event: fields({ description: "\u202Egnp.exe\u200B\u0430dmin <script>alert(1)</script> ${jndi:ldap://x} \"'`" }),
		comesBack: ["\u202Egnp.exe\u200B\u0430dmin <script>alert(1)</script> ${jndi:ldap://x} \\\"'`"],
	},
	...["User Login", "a:b", "a/b", "é", "a\n", " a", "audit.log.created"].map(
		(action): EventRow => ({
			row: 54,
			what: `the action ${JSON.stringify(action)}`,
			event: fields({ action }),
			refused: invalid("action"),
		}),
	),
	{
		row: 55,
		what: "an actor id of 257 bytes",
		event: fields({ actor: { id: "x".repeat(257) } }),
		refused: invalid("actor.id"),
	},
	{
		row: 56,
		what: "an event of more than 256 KiB",
		event: fields({ metadata: { a: "x".repeat(262_144) } }),
		refused: { ...invalid(""), says: /the limit is 262144$/ },
	},
	{
		row: 57,
		what: "a text of 4,097 bytes",
		event: fields({ description: "x".repeat(4097) }),
		refused: invalid("description"),
	},
	{
		row: 58,
		what: "a time 2^60 seconds from 1970",
		event: inProtobuf({ occurredAt: { seconds: 2n ** 60n, nanos: 0 } }),
		refused: invalid("occurred_at"),
	},
	{
		row: 59,
		what: "the year 10000",
		event: inProtobuf({ occurredAt: { seconds: 253_402_300_800n, nanos: 0 } }),
		refused: invalid("occurred_at"),
	},
	...["10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "yesterday"].map(
		(time): EventRow => ({
			row: 59,
			what: `the time ${time}`,
			event: inJson(`"occurred_at":"${time}"`),
			refused: { ...malformed("occurred_at"), says: /such as 2026-01-31T12:00:00.000001Z$/ },
		}),
	),
	{
		row: 60,
		what: "-1 nanoseconds",
		event: inProtobuf({ occurredAt: { ...now(), nanos: -1 } }),
		refused: invalid("occurred_at"),
	},
	{
		row: 61,
		what: "2,000,000,000 nanoseconds",
		event: inProtobuf({ occurredAt: { ...now(), nanos: 2_000_000_000 } }),
		refused: invalid("occurred_at"),
	},
	{
		row: 62,
		what: "a time more than a day ahead",
		event: fields({ occurredAt: secondsFromNow(DAY + 600) }),
		refused: { ...invalid("occurred_at"), says: /24 hours/ },
	},
	{
		row: 62,
		what: "a time more than ten years back",
		event: fields({ occurredAt: secondsFromNow(-3_653 * DAY) }),
		refused: { ...invalid("occurred_at"), says: /10 years/ },
	},
	...["s3cret", `${V4}0`, V4.replaceAll("-", ""), `{${V4}}`, "g".repeat(36)].map(
		(id): EventRow => ({
			row: 63,
			what: `the id ${id}`,
			event: fields({ id, occurredAt: now() }),
			refused: invalid("id"),
		}),
	),
	{ row: 63, what: "a UUIDv4 without a time", event: fields({ id: V4 }), refused: invalid("occurred_at") },
	{ row: 63, what: "the nil UUID without a time", event: fields({ id: NIL }), refused: invalid("occurred_at") },
	{
		row: 64,
		what: "a UUIDv7 of 1970",
		event: fields({ id: "00000000-0001-7000-8000-000000000000" }),
		refused: invalid("occurred_at"),
	},
	{
		row: 64,
		what: "a UUIDv7 of the year 10889",
		event: fields({ id: "ffffffff-ffff-7fff-bfff-ffffffffffff" }),
		refused: invalid("occurred_at"),
	},
	{
		row: 68,
		what: "metadata 33 deep",
		event: inJson(`"metadata":${JSON.stringify(nested(33))}`),
		refused: malformed(pathOf(32)),
	},
	{ row: 68, what: "metadata 33 deep", event: inProtobuf({ metadata: nested(33) }), refused: invalid(pathOf(32)) },
	{ row: 68, what: "metadata 60 deep", event: metadata(member("n", nestedValue(59))), refused: malformed("metadata") },
	{
		row: 68,
		what: "metadata 100,000 deep",
		event: inJson(`"metadata":${'{"n":'.repeat(100_000)}1${"}".repeat(100_000)}`),
		refused: malformed(pathOf(32)),
	},
	{
		row: 69,
		what: "2,001 values",
		event: fields({ metadata: { l: Array.from({ length: 1999 }, () => 0) } }),
		refused: invalid("metadata"),
	},
	{
		row: 69,
		what: "100,000 nulls",
		event: fields({ metadata: { l: Array.from({ length: 100_000 }, () => null) } }),
		refused: invalid("metadata"),
	},
	{
		row: 70,
		what: "a key of 257 bytes",
		event: fields({ metadata: { [`${"é".repeat(128)}x`]: 1 } }),
		refused: invalid(`metadata.${JSON.stringify("é".repeat(64))}`),
	},
	{
		row: 70,
		what: "an empty key, and 300 keys",
		event: fields({ metadata: { "": 1, ...Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`k${i}`, 0])) } }),
		comesBack: ['"metadata":{"":1,"k0":0,"k1":0,'],
	},
	{
		row: 71,
		what: "keys that are names of Object's own",
		event: inBoth('"metadata":{"__proto__":{"admin":true},"constructor":1,"toString":null}'),
		comesBack: ['"metadata":{"__proto__":{"admin":true},"constructor":1,"toString":null}'],
	},
	{
		row: 72,
		what: "numbers that are none",
		event: inProtobuf({ metadata: { a: Number.NaN, b: [Number.POSITIVE_INFINITY] } }),
		refused: { ...invalid("metadata.a", "metadata.b[0]"), says: /finite/ },
	},
	{ row: 72, what: "NaN in JSON", event: inJson('"metadata":{"a":NaN}'), refused: { kind: "syntax", fields: [""] } },
	{
		row: 73,
		what: "a value without a kind",
		event: metadata(member("a", Buffer.alloc(0))),
		comesBack: ['"metadata":{"a":null}'],
	},
	{
		row: 74,
		what: "1e400",
		event: inJson('"metadata":{"a":1e400}'),
		refused: { ...invalid("metadata.a"), says: /finite/ },
	},
	{
		row: 75,
		what: "integers beyond 2^53-1",
		event: inJson('"metadata":{"a":9007199254740993,"b":-9007199254740992,"c":9007199254740991}'),
		refused: { ...invalid("metadata.a", "metadata.b"), says: /send it as a string$/ },
	},
	{ row: 76, what: "-0", event: inBoth('"metadata":{"a":-0}'), comesBack: ['"metadata":{"a":0}'] },
	{
		row: 77,
		what: "a key of the metadata given twice in protobuf",
		event: metadata(member("a", varint(4, 0)), member("a", varint(4, 1))),
		comesBack: ['"metadata":{"a":true}'],
	},
	...["999.1.1.1", "s3cret", "1.2.3", "10.0.0.1/8", "[::1]", "::1\0"].map(
		(ipAddress): EventRow => ({
			row: 78,
			what: `the address ${JSON.stringify(ipAddress)}`,
			event: fields({ context: { ipAddress } }),
			refused: { ...invalid("context.ip_address"), says: /IPv4 or IPv6/ },
		}),
	),
	...["fe80::1%eth0", "::ffff:10.0.0.1"].map(
		(ipAddress): EventRow => ({
			row: 78,
			what: `the address ${ipAddress}`,
			event: fields({ context: { ipAddress } }),
			comesBack: [`"ip_address":"${ipAddress}"`],
		}),
	),
	{
		row: 80,
		what: "an unspecified outcome and severity",
		event: fields({ outcome: Outcome.UNSPECIFIED, severity: Severity.UNSPECIFIED }),
		comesBack: ['"outcome":"OUTCOME_SUCCESS"', '"severity":"SEVERITY_INFO"'],
	},
	{
		row: 86,
		what: "what means something to COPY",
		event: fields({
			description: "a\tb\nc\\d\\N\r\n\\.\n\"e'f\0".replace("\0", ""),
			actor: { id: "\\N", displayName: "\\." },
			metadata: { "\\t": "\\.\n\\N" },
		}),
		comesBack: [
			JSON.stringify("a\tb\nc\\d\\N\r\n\\.\n\"e'f"),
			'"id":"\\\\N"',
			'"display_name":"\\\\."',
			JSON.stringify({ "\\t": "\\.\n\\N" }),
		],
	},
	{
		row: 87,
		what: "what means something to spreadsheets",
		event: fields({ description: "=cmd|' /C calc'!A1", metadata: { a: "+1", b: "-1", c: "@x", d: "\tx", e: "\rx" } }),
		comesBack: ['"description":"=cmd|', '"metadata":{"a":"+1","b":"-1","c":"@x","d":"\\tx","e":"\\rx"}'],
	},
	{
		row: 88,
		what: "what looks like a secret",
		event: fields({ description: "AKIAIOSFODNN7EXAMPLE al_0123456789ab_abcdef", metadata: { password: "hunter2" } }),
		comesBack: ["AKIAIOSFODNN7EXAMPLE al_0123456789ab_abcdef", '"password":"hunter2"'],
	},
];
