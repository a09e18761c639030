import { mkdirSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { connect, type JetStreamManager } from "nats";
import { describe, expect, test } from "vitest";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import { lastingPort, saidOf, startDoor, untilUp } from "../support/nats-client.ts";
import { connectAs, natsExample, permissionsOf, urlOf } from "../support/nats-examples.ts";
import { ownDirectory, startOwnNats, waitFor } from "../support/services.ts";

/** The list of what the service's user may, in docs/examples/nats/users.conf, is neither too long nor too short. */

const MAY = permissionsOf("auditlog").publish;
/** Needed only when a server has lost the end of a stream that it had acknowledged. */
const RARE = "$JS.API.CONSUMER.DELETE.AUDIT.audit-writer";

/** Without some lines of the list, and with somebody who may do everything. */
function usersWithout(...subjects: string[]): string {
	const [before = "", after = ""] = natsExample("users").split("# The service. ");
	const list = subjects.reduce((text, subject) => text.replace(`"${subject}"`, '"nothing"'), after);
	for (const subject of subjects) expect(list).not.toContain(`"${subject}"`);
	return `${before}{ user: root, password: "change-me" }\n# The service. ${list}`;
}

/** All messages become dead letters, so that there are copies to publish. */
const ingest = {
	acceptMessages: (items: readonly { origin: object }[]) =>
		Promise.resolve({
			deadLetters: items.map(({ origin }) => ({ ...origin, reason: "R", message: "", violations: [] })) as never,
		}),
};

const HEAD = { batchNo: 1n, batchId: 1n, chain: new Uint8Array(32), events: 1 };

/** What a door says once it has had every occasion to. */
async function saying(door: NatsDoor, nats: { url: string }, what: (words: string) => boolean): Promise<string> {
	door.publishChainHead(HEAD as never);
	const acme = await connectAs("acme", nats);
	try {
		return await waitFor(async () => {
			// As long as there is no stream, nobody takes it.
			await acme
				.jetstream()
				.publish("audit.events.acme", "{}")
				.catch(() => {});
			const { reason, sync } = door.status();
			const words = `${reason}; sync ${sync}`;
			return what(words) ? words : undefined;
		});
	} finally {
		await acme.close();
	}
}

async function withRoot(nats: { url: string }, use: (jsm: JetStreamManager) => Promise<unknown>): Promise<void> {
	const root = await connect({ servers: nats.url, user: "root", pass: "change-me" });
	await use(await root.jetstreamManager());
	await root.close();
}

describe("the service misses, and names,", () => {
	test.each(MAY.filter((subject) => subject !== RARE))("%s", async (subject) => {
		const nats = await startOwnNats({ config: usersWithout(subject) });
		const [, updated] = /STREAM\.UPDATE\.(\w+)$/.exec(subject) ?? [];
		if (updated !== undefined) {
			// As an older version has made it.
			const subjects = updated === "AUDIT" ? ["audit.events"] : [updated === "AUDIT_DLQ" ? "audit.dlq" : "audit.chain"];
			await withRoot(nats, (jsm) => jsm.streams.add({ name: updated, subjects, description: "older" }));
		}
		const door = startDoor({ url: urlOf("auditlog", nats), ingest });
		// A server that cannot sync first needs not be asked.
		const word = subject.startsWith("$SYS.") ? `undefined; sync ${nats.syncAlways ? "unknown" : "periodic"}` : subject;
		await saying(door, nats, (words) => words.includes(word));
		await door.close();
		await nats.stop();
	});
});

test("where a server lost the end of the stream, the service reads it from the start; it misses, and names, that, too", async () => {
	const dataDir = ownDirectory("nats-tail");
	mkdirSync(dataDir, { recursive: true });
	const port = lastingPort();
	const whole = await startOwnNats({ dataDir, port, config: usersWithout() });
	const door = startDoor({ url: urlOf("auditlog", whole), ingest });
	await untilUp(door);
	const acme = await connectAs("acme", whole);
	await acme.jetstream().publish("audit.events.acme", "{}");
	await acme.close();
	await withRoot(whole, (jsm) =>
		waitFor(async () => (await jsm.consumers.info("AUDIT", "audit-writer")).ack_floor.stream_seq > 0),
	);
	await whole.stop();
	const [messages] = (await readdir(dataDir, { recursive: true })).filter((name) => name.endsWith("AUDIT/msgs"));
	await rm(join(dataDir, messages ?? "where are they?"), { recursive: true });

	const without = await startOwnNats({ dataDir, port: whole.port, config: usersWithout(RARE) });
	expect(without.port).toBe(whole.port);
	await withRoot(without, async (jsm) => {
		const { delivered } = await jsm.consumers.info("AUDIT", "audit-writer");
		const { state } = await jsm.streams.info("AUDIT");
		// Newer servers know the last number from elsewhere, and lose nothing.
		if (delivered.stream_seq > state.last_seq) await waitFor(() => door.status().reason?.includes(RARE));
		else await untilUp(door);
	});
	await without.stop();
	const right = await startOwnNats({ dataDir, port: whole.port, config: natsExample("users") });
	await untilUp(door);
	expect(door.degraded()).toEqual(saidOf(right));
	await door.close();
	await right.stop();
});

test("once the streams are made, what makes and changes them can go", async () => {
	const dataDir = ownDirectory("nats-made");
	mkdirSync(dataDir, { recursive: true });
	const before = await startOwnNats({ dataDir, config: natsExample("users") });
	const first = startDoor({ url: urlOf("auditlog", before), ingest });
	await untilUp(first);
	await first.close();
	await before.stop();

	const making = MAY.filter((subject) => /\.(CREATE|UPDATE)\./.test(subject));
	expect(making).toHaveLength(7);
	const after = await startOwnNats({ dataDir, config: usersWithout(...making) });
	const door = startDoor({ url: urlOf("auditlog", after), ingest });
	await untilUp(door);
	const acme = await connectAs("acme", after);
	await acme.jetstream().publish("audit.events.acme", "{}");
	await acme.close();
	await withRoot(after, (jsm) =>
		waitFor(async () => (await jsm.streams.info("AUDIT_DLQ")).state.messages > 0, { what: "the copy" }),
	);
	expect(door.degraded()).toEqual(saidOf(after));
	await door.close();
	await after.stop();
});
