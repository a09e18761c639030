import { type Answer, sendConnect, sendGrpc, sendRest } from "./doors.ts";
import { answerOf } from "./event-doors.ts";
import type { RequestRow } from "./request-rows.ts";
import type { World } from "./world.ts";

/** Rows 65–67 and 81–85: several events, in one call or in several. */

const BATCH = { "Audit-Type": "batch" };
const good = (name: string, more: object = {}) => ({
	tenant_id: "acme",
	action: `batch.${name}`,
	actor: { id: "jane" },
	...more,
});
const bad = { tenant_id: "acme", action: "S3CRET", actor: {} };

interface Batch {
	readonly events: readonly object[];
	readonly mode?: string | number;
}

/** A batch at each door. NATS answers for its first dead letter. */
function atEvery(batch: Batch, { nats = true } = {}): RequestRow["doors"] {
	const body = JSON.stringify(batch);
	return {
		Connect: ({ httpUrl, key }) => sendConnect(httpUrl, "BatchWrite", "application/json", { body, key }),
		gRPC: ({ grpc, key }) => sendGrpc(grpc, "BatchWrite", "application/grpc+json", { body, key }),
		REST: ({ httpUrl, key }) => sendRest(httpUrl, "POST", "/v1/audit/events:batch", { body, key }),
		...(nats && { NATS: (world: World) => published(world, body, BATCH) }),
	};
}

async function published(world: World, data: string, headers: Record<string, string> = {}): Promise<Answer> {
	const [letters = []] = await world.publish([{ subject: "audit.events.acme", data, headers }]);
	return answerOf(letters);
}

/** The same event again, alone, at each door: after it was written over REST. */
function again(first: object, second: object, headers: Record<string, string> = {}): RequestRow["doors"] {
	const after = (send: (world: World) => Promise<Answer>) => async (world: World) => {
		const body = JSON.stringify(first);
		const written = await sendRest(world.httpUrl, "POST", "/v1/audit/events", { body, key: world.key, headers });
		return written.refusal ? written : send(world);
	};
	const body = JSON.stringify({ event: second });
	return {
		Connect: after(({ httpUrl, key }) => sendConnect(httpUrl, "WriteEvent", "application/json", { body, key })),
		gRPC: after(({ grpc, key }) => sendGrpc(grpc, "WriteEvent", "application/grpc+json", { body, key })),
		REST: after(({ httpUrl, key }) =>
			sendRest(httpUrl, "POST", "/v1/audit/events", { body: JSON.stringify(second), key }),
		),
		NATS: after((world) => published(world, JSON.stringify(second))),
	};
}

/** Recent: ids name their time, and old times are refused. */
const recent = (i: number) => {
	const millis = (Date.now() - 3_600_000).toString(16).padStart(12, "0");
	return `${millis.slice(0, 8)}-${millis.slice(8)}-7000-8000-00000000000${i}`;
};

export const BATCHES: readonly RequestRow[] = [
	{
		row: 65,
		what: "the same event again",
		doors: again(good("again", { id: recent(1) }), good("again", { id: recent(1) })),
		expected: { code: "ok" },
	},
	{
		row: 66,
		what: "the same id with other content",
		doors: again(good("first", { id: recent(2) }), good("second", { id: recent(2) })),
		expected: { code: ["already_exists", "invalid_argument"], reason: "ID_REUSED" },
	},
	{
		row: 67,
		what: "an id that another tenant has used",
		doors: again(good("ours", { id: recent(3), tenant_id: "globex" }), good("theirs", { id: recent(3) })),
		expected: { code: "ok" },
	},
	{
		row: 81,
		what: "no events",
		doors: atEvery({ events: [] }),
		expected: {
			code: "invalid_argument",
			reason: ["BATCH_SIZE", "EMPTY_BATCH"],
			fields: ["events"],
			says: /1 to 1000/,
		},
	},
	{
		row: 82,
		what: "1,001 events",
		doors: atEvery({ events: Array.from({ length: 1001 }, () => good("many")) }),
		expected: {
			code: "invalid_argument",
			reason: ["BATCH_SIZE", "BATCH_TOO_LARGE"],
			fields: ["events"],
			says: /1 to 1000/,
		},
	},
	{
		row: 82,
		what: "a batch of more than 4 MiB",
		doors: atEvery(
			{ events: Array.from({ length: 20 }, () => good("x", { metadata: { a: "x".repeat(220_000) } })) },
			{ nats: false },
		),
		expected: { code: "resource_exhausted", reason: "REQUEST_TOO_LARGE" },
	},
	{
		row: 83,
		what: "one bad event among good ones",
		doors: {
			REST: atEvery({ events: [good("partial"), bad, good("partial")] })["REST"] as RequestRow["doors"][string],
		},
		expected: {
			code: "ok",
			json: {
				results: [
					{ written: { duplicate: false } },
					{
						error: {
							code: "invalid_argument",
							reason: "INVALID_EVENT",
							violations: [{ field: "events[1].action" }, { field: "events[1].actor.id" }],
						},
					},
					{ written: { duplicate: false } },
				],
			},
		},
	},
	{
		row: 83,
		what: "one bad event among good ones: the dead letter of the bad one",
		doors: {
			NATS: (world) => published(world, JSON.stringify({ events: [good("partial"), bad, good("partial")] }), BATCH),
		},
		expected: { code: "invalid_argument", reason: "INVALID_EVENT", fields: ["action", "actor.id"] },
	},
	{
		row: 84,
		what: "the same, all or none",
		doors: atEvery(
			{ events: [good("atomic"), bad, good("atomic"), {}], mode: "BATCH_WRITE_MODE_ATOMIC" },
			{ nats: false },
		),
		expected: {
			code: "invalid_argument",
			reason: "INVALID_EVENT",
			fields: ["events[1].action", "events[1].actor.id", "events[3].action", "events[3].actor", "events[3].tenant_id"],
		},
	},
	{
		row: 84,
		what: "nothing of it is stored",
		doors: {
			REST: ({ httpUrl, key }) =>
				sendRest(httpUrl, "GET", "/v1/audit/events?tenant_id=acme&actions=batch.atomic", { key }),
		},
		expected: { code: "ok", json: { events: [] } },
	},
	...["ALL", 7].map(
		(mode): RequestRow => ({
			row: 84,
			what: `the mode ${mode}`,
			doors: atEvery({ events: [good("mode")], mode }, { nats: false }),
			expected: {
				code: "invalid_argument",
				fields: ["mode"],
				says: /BATCH_WRITE_MODE_PARTIAL.*BATCH_WRITE_MODE_ATOMIC/,
			},
		}),
	),
	{
		row: 85,
		what: "one id three times in a batch, once with other content",
		doors: {
			REST: atEvery({
				events: [good("twice", { id: recent(4) }), good("twice", { id: recent(4) }), good("other", { id: recent(4) })],
			})["REST"] as RequestRow["doors"][string],
		},
		expected: {
			code: "ok",
			json: {
				results: [
					{ written: { duplicate: false } },
					{ written: { duplicate: true } },
					{ error: { code: "already_exists", reason: "ID_REUSED" } },
				],
			},
		},
	},
];
