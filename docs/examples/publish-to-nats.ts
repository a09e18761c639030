// Publishes events to JetStream: for producers with many events. The acknowledgement promises that each will be
// stored exactly once or, visibly, become a dead letter.
// Prints: message \d+ of stream AUDIT
import { createHash, randomUUID } from "node:crypto";
import { connect, headers } from "nats";

const nc = await connect({ servers: process.env["NATS_URL"]! });
const events = ["sensor.started", "sensor.read", "sensor.stopped"].map((action) => ({
	// An id of its own makes an event safe to publish again.
	id: randomUUID(),
	occurred_at: new Date().toISOString(),
	tenant_id: "examples",
	action,
	actor: { id: "sensor-1", type: "ACTOR_TYPE_SERVICE" },
}));
const body = JSON.stringify({ events });
const header = headers();
header.set("Audit-Type", "batch");

const ack = await nc.jetstream().publish("audit.events.examples", body, {
	headers: header,
	// From tenant and content, never from an id alone: JetStream drops a second message with the same one.
	msgID: createHash("sha256").update(`examples\0${body}`).digest("base64url"),
});
console.log(`message ${ack.seq} of stream ${ack.stream}`);
await nc.close();
