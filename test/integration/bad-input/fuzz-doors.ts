import fc from "fast-check";
import { expect } from "vitest";
import { CANARY, jsonTexts, parameters, protobufBytes, tokensLike } from "../../support/fuzz-inputs.ts";
import { type Answer, amiss, sendConnect, sendGrpc, sendRest, wrapped } from "./doors.ts";
import { openWorld, type World } from "./world.ts";

/** What holds for every input at every door of a running service: an answer, never an internal error, never the value. */
export interface DoorFuzz {
	readonly name: string;
	/** Its part of all inputs. */
	readonly share: number;
	readonly run: (world: World, inputs: number) => Promise<void>;
}

/** What an answer says of the value it refuses. Paths may hold names, which mutations may have made of values. */
function repeats({ refusal }: Answer): string[] {
	const said = refusal?.violations.length ? refusal.violations.map(({ message }) => message) : [refusal?.message ?? ""];
	return said.filter((message) => message.includes(CANARY));
}

/** So many are sent together: the service is to be busy with several, and shrinking to begin with few. */
const TOGETHER = 50;

const EVENTS = "/v1/audit/events";

export const DOOR_FUZZ: readonly DoorFuzz[] = [
	atDoor("JSON for an event, over Connect", 0.15, jsonTexts("event"), ({ httpUrl, key }, text) =>
		sendConnect(httpUrl, "WriteEvent", "application/json", { body: `{"event":${text}}`, key }),
	),
	atDoor("JSON for an event, over REST", 0.15, jsonTexts("event"), ({ httpUrl, key }, body) =>
		sendRest(httpUrl, "POST", EVENTS, { body, key }),
	),
	atDoor("protobuf for an event, over Connect", 0.1, protobufBytes("event"), ({ httpUrl, key }, bytes) =>
		sendConnect(httpUrl, "WriteEvent", "application/proto", { body: wrapped(bytes), key }),
	),
	atDoor("protobuf for a batch, over gRPC", 0.15, protobufBytes("event"), ({ grpc, key }, bytes) =>
		sendGrpc(grpc, "BatchWrite", "application/grpc", { body: wrapped(bytes), key }),
	),
	atDoor("bytes of any kind, over gRPC", 0.05, protobufBytes("event"), ({ grpc, key }, body) =>
		sendGrpc(grpc, "WriteEvent", "application/grpc", { body, key, framed: false }),
	),
	atDoor("protobuf for a search, over gRPC", 0.1, protobufBytes("query"), ({ grpc, key }, body) =>
		sendGrpc(grpc, "Query", "application/grpc", { body, key }),
	),
	atDoor("parameters of a search, over REST", 0.1, parameters(), ({ httpUrl, key }, text) =>
		sendRest(httpUrl, "GET", `${EVENTS}?${text.toWellFormed().replaceAll("#", "")}`, { key }),
	),
	atDoor("page tokens, over Connect", 0.05, tokensLike("A".repeat(87)), ({ httpUrl, key }, pageToken) => {
		const body = JSON.stringify({ tenantId: "acme", pageToken: pageToken.toWellFormed() });
		return sendConnect(httpUrl, "Query", "application/json", { body, key });
	}),
	atDoor("keys, over REST", 0.05, tokensLike(`al_0123456789ab_${"0f".repeat(32)}`), async ({ httpUrl }, text) => {
		const key = text.replace(/[^\x21-\x7e\xa1-\xff]/g, "");
		const answer = await sendRest(httpUrl, "GET", `${EVENTS}?tenant_id=acme`, { key });
		expect(answer.refusal?.code).toBe("unauthenticated");
		return answer;
	}),
	{
		name: "messages, over NATS",
		share: 0.1,
		run: (world, inputs) =>
			fc.assert(
				fc.asyncProperty(messages(), async (sent) => {
					const before = await settled(world);
					await world.publish(sent);
					// All of them are in the stream, and each is dealt with: one that could not be would be delivered for ever.
					const after = await settled(world);
					expect(after.sequences - before.sequences).toBe(sent.length);
					expect(after.unsettled).toBe(0);
				}),
				{ numRuns: Math.ceil(inputs / 250), endOnFailure: true },
			),
	},
];

/** Runs all of them against one service, which must be alive after it with a trail that verifies. */
export async function fuzzDoors(inputs: number): Promise<void> {
	const world = await openWorld();
	try {
		const body = '{"tenant_id":"acme","action":"fuzz.event","actor":{"id":"jane"}}';
		await sendRest(world.httpUrl, "POST", EVENTS, { body, key: world.key });
		for (const { share, run } of DOOR_FUZZ) await run(world, inputs * share);
	} finally {
		await world.end();
	}
}

function atDoor<T>(
	name: string,
	share: number,
	input: fc.Arbitrary<T>,
	send: (world: World, input: T) => Promise<Answer>,
): DoorFuzz {
	const several = fc.array(input, { minLength: TOGETHER, maxLength: TOGETHER });
	return {
		name,
		share,
		run: (world, inputs) =>
			fc.assert(
				fc.asyncProperty(several, async (all) => {
					const answers = await Promise.all(all.map((each) => send(world, each)));
					for (const [i, answer] of answers.entries()) {
						const shown = [name, all[i]];
						expect([...shown, amiss(answer), repeats(answer)]).toEqual([...shown, [], []]);
					}
				}),
				// The failure names the input, and shrinking fifty at a time takes minutes.
				{ numRuns: Math.ceil(inputs / TOGETHER), endOnFailure: true },
			),
	};
}

function messages() {
	const data = fc.oneof(
		protobufBytes("event"),
		jsonTexts("event").map((text) => Buffer.from(text)),
	);
	const subject = fc.constantFrom("audit.events", "audit.events.acme", "audit.events.b$d");
	const header = fc.constantFrom<Record<string, string>>(
		{},
		{ "Audit-Type": "batch" },
		{ "Content-Type": "application/json" },
	);
	const message = fc.record({ data, subject, headers: header });
	return fc.array(message, { minLength: 250, maxLength: 250 });
}

async function settled(world: World): Promise<{ sequences: number; unsettled: number }> {
	const { state } = await world.natsClient.jsm.streams.info("AUDIT");
	const { unacknowledged } = await world.natsClient.progress();
	return { sequences: state.last_seq, unsettled: unacknowledged };
}
