import { Buffer } from "node:buffer";
import { type Answer, sendConnect, sendGrpc, sendGrpcWeb, sendRest, wrapped } from "./doors.ts";
import { ACTION, type EventRow, type Forms, lengthDelimited, type Refused, utf8, varint } from "./event-forms.ts";
import type { DeadLetter, World } from "./world.ts";

/** A way for one event to come in, and how it names what is wrong with it. */
export interface EventDoor {
	readonly name: string;
	readonly form: keyof Forms;
	readonly send: (world: World, event: string & Uint8Array) => Promise<Answer>;
	/** The path of what is at `path` in the event, from the top of what was sent. */
	readonly at: (path: string, kind: Refused["kind"]) => string;
}

const within = (top: string, malformedTop: string) => (path: string, kind: Refused["kind"]) =>
	kind === "syntax" ? malformedTop : path === "" ? top : `${top}.${path}`;
const inEvent = within("event", "request");
const request = (event: string) => `{"event":${event}}`;
const BATCH = "/v1/audit/events:batch";

export const EVENT_DOORS: readonly EventDoor[] = [
	{
		name: "Connect, JSON",
		form: "json",
		send: ({ httpUrl, key }, event) =>
			sendConnect(httpUrl, "WriteEvent", "application/json", { body: request(event), key }),
		at: inEvent,
	},
	{
		name: "Connect, protobuf",
		form: "bytes",
		send: ({ httpUrl, key }, event) =>
			sendConnect(httpUrl, "WriteEvent", "application/proto", { body: wrapped(event), key }),
		at: inEvent,
	},
	{
		name: "gRPC, protobuf",
		form: "bytes",
		send: ({ grpc, key }, event) => sendGrpc(grpc, "WriteEvent", "application/grpc", { body: wrapped(event), key }),
		at: inEvent,
	},
	{
		name: "gRPC, JSON",
		form: "json",
		send: ({ grpc, key }, event) =>
			sendGrpc(grpc, "WriteEvent", "application/grpc+json", { body: request(event), key }),
		at: inEvent,
	},
	{
		name: "gRPC-Web, protobuf",
		form: "bytes",
		send: ({ httpUrl, key }, event) =>
			sendGrpcWeb(httpUrl, "WriteEvent", "application/grpc-web+proto", { body: wrapped(event), key }),
		at: inEvent,
	},
	{
		name: "REST",
		form: "json",
		send: ({ httpUrl, key }, event) => sendRest(httpUrl, "POST", "/v1/audit/events", { body: event, key }),
		at: (path, kind) => path || (kind === "invalid" ? "event" : "body"),
	},
	{
		name: "REST, a batch",
		form: "json",
		send: async ({ httpUrl, key }, event) => {
			const answer = await sendRest(httpUrl, "POST", BATCH, { body: `{"events":[${event}]}`, key });
			const [item] = (answer.json?.["results"] ?? []) as { error?: Answer["refusal"] }[];
			return item?.error ? { ...answer, refusal: item.error } : answer;
		},
		at: within("events[0]", "body"),
	},
	{
		name: "gRPC, an atomic batch",
		form: "bytes",
		send: ({ grpc, key }, event) => {
			const body = Buffer.concat([wrapped(event), varint(2, 2)]);
			return sendGrpc(grpc, "BatchWrite", "application/grpc", { body, key });
		},
		at: within("events[0]", "request"),
	},
];

/** NATS takes all messages first and judges them later, so what is sent there is sent together. */
export const NATS_DOORS = [
	{ name: "NATS, JSON", form: "json" },
	{ name: "NATS, protobuf", form: "bytes" },
] as const satisfies readonly { name: string; form: keyof Forms }[];

export function natsMessage(data: string | Uint8Array) {
	// A body that begins with { is known as JSON without being declared.
	const json = typeof data === "string" && !data.startsWith("{");
	const headers: Record<string, string> = json ? { "Content-Type": "application/json" } : {};
	return { subject: "audit.events", data, headers };
}

/** A dead letter as the other doors would have put it. */
export function answerOf([letter]: readonly DeadLetter[]): Answer {
	const answer = {
		status: 200,
		requestId: letter?.stream_seq ?? "",
		text: JSON.stringify(letter ?? {}),
		json: undefined,
	};
	if (!letter) return answer;
	const { reason, message, violations } = letter;
	return { ...answer, refusal: { code: "invalid_argument", reason, message, violations } };
}

/** The reason of a refusal: what cannot be read has a word for each form at NATS, where no status says which it was. */
export function reasonOf(refused: Refused, form: keyof Forms, isNats: boolean): string {
	if (refused.kind === "invalid") return "INVALID_EVENT";
	if (!isNats) return "MALFORMED_REQUEST";
	return form === "json" ? "UNDECODABLE_JSON" : "UNDECODABLE_PROTOBUF";
}

/** The event as another one: under another action. */
export function renamed(event: string | Uint8Array, action: string): string | Uint8Array {
	if (typeof event === "string") return event.replace(`"action":"${ACTION}"`, `"action":"${action}"`);
	// Of a field that comes twice the last one counts.
	return Buffer.concat([event, lengthDelimited(3, utf8(action))]);
}

export function titleOf({ row, what, event }: EventRow): string {
	const only = event.json === undefined ? ", in protobuf" : event.bytes === undefined ? ", in JSON" : "";
	return `${row}: ${what}${only}`;
}
