import { expect, test } from "vitest";
import { eventMessage, openNatsClient, startDoor, untilDrained, untilUp } from "../support/nats-client.ts";
import { startOwnNats, waitFor } from "../support/services.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { anEvent } from "../support/write-path.ts";

test("a line to NATS that goes dead without a word is noticed, and the door comes back on a new one", async () => {
	const nats = await startOwnNats();
	const proxy = await startTcpProxy(nats.port);
	let accepted = 0;
	const door = startDoor({
		url: `nats://127.0.0.1:${proxy.port}`,
		ackWaitMs: 2_000,
		ingest: {
			acceptMessages: async (items) => {
				accepted += items.length;
				return { deadLetters: [] };
			},
		},
	});
	const client = await openNatsClient(nats.url);
	try {
		await untilUp(door);
		await client.publish([eventMessage(anEvent())]);
		await untilDrained(client);
		proxy.silence();
		await client.publish([eventMessage(anEvent())]);
		await waitFor(() => door.status().state === "connecting", { deadlineMs: 40_000, what: "noticing" });
		proxy.restore();
		await untilDrained(client);
		expect(accepted).toBe(2);
	} finally {
		await client.close();
		await door.close();
		await proxy.cut();
		await nats.stop();
	}
});
