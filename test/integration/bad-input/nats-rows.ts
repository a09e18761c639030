import { connect as connectTcp } from "node:net";
import { type Answer } from "./doors.ts";
import { answerOf } from "./event-doors.ts";
import type { Expected, RequestRow } from "./request-rows.ts";
import type { World } from "./world.ts";

/** Rows 115–117: what only NATS has. */

const good = '{"tenant_id":"acme","action":"bad.input","actor":{"id":"jane"}}';
const unbound = '{"action":"bad.input","actor":{"id":"jane"}}';

function published(
	subject: string,
	data: string | Uint8Array,
	headers: Record<string, string> = {},
): RequestRow["doors"] {
	return {
		NATS: async (world) => {
			const [letters = []] = await world.publish([{ subject, data, headers }]);
			return answerOf(letters);
		},
	};
}

/** With the twelve bytes of empty headers a message of 1 MiB. */
const MESSAGE_BYTES = 1024 * 1024 - "NATS/1.0\r\n\r\n".length;

/** What the server says to a producer, for messages that never get as far as us. */
function refusedByServer(send: (world: World) => Promise<unknown>): RequestRow["doors"] {
	const answer = (message: string): Answer => ({
		status: 200,
		requestId: "none",
		text: message,
		json: undefined,
		refusal: { code: "refused by NATS", reason: "NATS", message, violations: [] },
	});
	return {
		NATS: (world) =>
			send(world).then(
				() => ({ ...answer("taken"), refusal: undefined }) as unknown as Answer,
				(error: Error) => answer(error.message),
			),
	};
}

const letter = (reason: string, ...fields: string[]): Expected => ({ code: "invalid_argument", reason, fields });

export const NATS: readonly RequestRow[] = [
	{
		row: 115,
		what: "random bytes",
		doors: published("audit.events.acme", Buffer.from("ff00aa5507d1", "hex")),
		expected: letter("UNDECODABLE_PROTOBUF", ""),
	},
	{
		row: 115,
		what: "nothing",
		doors: published("audit.events.acme", ""),
		expected: letter("INVALID_EVENT", "action", "actor"),
	},
	{
		row: 115,
		what: "JSON of another schema",
		doors: published("audit.events.acme", '{"order":"s3cret"}'),
		expected: letter("UNDECODABLE_JSON", "order"),
	},
	{
		row: 115,
		what: "another tenant's event",
		doors: published("audit.events.globex", good),
		expected: letter("TENANT_MISMATCH", "tenant_id"),
	},
	{
		row: 115,
		what: "an event of no tenant",
		doors: published("audit.events", unbound),
		expected: letter("INVALID_EVENT", "tenant_id"),
	},
	{
		row: 115,
		what: "a tenant that cannot be one",
		doors: published("audit.events.s3cret$", good),
		expected: letter("UNKNOWN_SUBJECT"),
	},
	{
		row: 115,
		what: "a type that means nothing",
		doors: published("audit.events.acme", good, { "Audit-Type": "s3cret" }),
		expected: letter("UNKNOWN_AUDIT_TYPE"),
	},
	{
		row: 116,
		what: "a message that would roll up the others",
		doors: refusedByServer((world) =>
			world.natsClient.publish([{ subject: "audit.events.acme", data: good, headers: { "Nats-Rollup": "all" } }]),
		),
		expected: { code: "refused by NATS", says: /rollup not permitted/ },
	},
	...[
		{ "Nats-Expected-Stream": "OTHER" },
		{ "Nats-Expected-Last-Sequence": "1" },
		{ "Nats-Expected-Last-Msg-Id": "x" },
	].map(
		(headers): RequestRow => ({
			row: 116,
			what: `a forged ${Object.keys(headers)[0]}`,
			doors: refusedByServer((world) =>
				world.natsClient.publish([{ subject: "audit.events.acme", data: good, headers }]),
			),
			expected: { code: "refused by NATS", says: /expected stream|wrong last/ },
		}),
	),
	{
		row: 116,
		what: "a message that wants to vanish after a second is stored like any other, or refused",
		doors: {
			NATS: async (world) => {
				const data = good.replace("bad.input", "bad.ttl");
				const headers = { "Nats-TTL": "1s" };
				const taken = await world.publish([{ subject: "audit.events.acme", data, headers }]).then(
					() => 1,
					() => 0,
				);
				const { rows } = await world.admin.query("SELECT FROM audit.events WHERE action = 'bad.ttl'");
				const refusal = {
					code: "lost",
					reason: "LOST",
					message: `${taken} taken, ${rows.length} stored`,
					violations: [],
				};
				const answer = { status: 200, requestId: "none", text: "", json: undefined };
				return rows.length === taken ? answer : { ...answer, refusal };
			},
		},
		expected: { code: "ok" },
	},
	{
		row: 117,
		what: "1 MiB exactly",
		doors: published("audit.events.acme", Buffer.alloc(MESSAGE_BYTES, 0xff)),
		expected: letter("UNDECODABLE_PROTOBUF", ""),
	},
	{
		row: 117,
		what: "a byte more than 1 MiB",
		doors: refusedByServer((world) => rawPublish(world, `PUB audit.events.acme ${1024 * 1024 + 1}\r\n`)),
		expected: { code: "refused by NATS", says: /Maximum Payload Violation/ },
	},
	{
		row: 117,
		what: "2 MiB",
		doors: refusedByServer((world) => rawPublish(world, `PUB audit.events.acme ${2 * 1024 * 1024}\r\n`)),
		expected: { code: "refused by NATS", says: /Maximum Payload Violation/ },
	},
	{
		row: 117,
		what: "more than 1 MiB of headers",
		doors: refusedByServer((world) =>
			rawPublish(world, `HPUB audit.events.acme ${1024 * 1024 + 1} ${1024 * 1024 + 2}\r\n`),
		),
		expected: { code: "refused by NATS", says: /Maximum Payload Violation|message size/ },
	},
];

/** Sends a line as no client would, and fails with what the server says to it. */
function rawPublish(world: World, line: string): Promise<void> {
	return new Promise((_, reject) => {
		const socket = connectTcp(world.nats.port, "127.0.0.1");
		let text = "";
		socket.setEncoding("latin1").on("data", (chunk: string) => {
			text += chunk;
		});
		socket.on("error", () => {});
		socket.on("close", () => reject(new Error(/-ERR '([^']*)'/.exec(text)?.[1] ?? "closed without a word")));
		socket.write(`CONNECT {"headers":true,"verbose":false}\r\n${line}`);
	});
}
