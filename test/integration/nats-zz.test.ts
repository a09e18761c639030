import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { pino } from "pino";
import { eventMessage, openNatsClient, startDoor, untilUp } from "../support/nats-client.ts";
import { ownDirectory, startOwnNats, waitFor } from "../support/services.ts";
import { anEvent } from "../support/write-path.ts";
const msgs = Array.from({ length: 3000 }, (_, i) => eventMessage(anEvent({ action: `a.${i}` })));
test.each(Array.from({ length: 12 }, (_, i) => i))("t %i", async () => {
	const dataDir = ownDirectory("nats");
	let nats = await startOwnNats({ dataDir });
	const client = await openNatsClient(nats.url);
	const logs: string[] = [];
	const t0 = performance.now(); const at = () => (performance.now() - t0).toFixed(0).padStart(6);
	const log = (...x: unknown[]) => logs.push([at(), ...x].join(" "));
	void (async () => { for await (const s of client.nc.status()) log("client", s.type, s.data); })();
	const maker = startDoor({ url: nats.url, ingest: { acceptMessages: async () => ({ deadLetters: [] }) } });
	await untilUp(maker); await maker.close();
	await client.publish(msgs);
	let flushes = 0;
	const door = startDoor({ url: nats.url, ackWaitMs: 2000, logger: pino({ level: "debug" }, { write: (l: string) => log(l.trim()) }), ingest: { async acceptMessages(items) { flushes++; log("flush", items.length); if (flushes === 1) { process.kill(nats.pid, "SIGTERM"); await nats.exited; log("exited"); } return { deadLetters: [] }; } } });
	await waitFor(() => flushes > 0 && door.status().state === "connecting", { what: "noticing" });
	nats = await startOwnNats({ dataDir, port: nats.port }); log("started");
	let slow = false;
	for (;;) { const s = performance.now(); try { const p = await client.progress(); log(JSON.stringify(p)); if (p.unacknowledged === 0) break; } catch (e) { slow = true; log("ERR", e, (performance.now() - s).toFixed(0), JSON.stringify(door.status())); if (performance.now() - t0 > 25000) break; } await new Promise((r) => setTimeout(r, 300)); }
	if (slow) console.log(logs.join("\n"), readFileSync(join(dataDir, "nats.log"), "utf8").split("\n").slice(-40).join("\n"));
	await door.close(); await client.close(); await nats.stop();
}, 60000);
