import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { toBinary } from "@bufbuild/protobuf";
import { connect } from "nats";
import type { Closer } from "../src/closer.ts";
import { EventSchema } from "../src/gen/audit/v1/event_pb.ts";
import { Events } from "./read-events.ts";

/** Events published to NATS at a steady pace, by a process of its own, while something else is measured. */
export interface SteadyDrain {
	/** @returns how many were published */
	stop(): Promise<number>;
}

const PER_SECOND = 1_000;
const EVERY_MS = 20;
/** Where NATS is slower than that, its pace is the pace. */
const MOST_AT_ONCE = 100;

/** Resolves once the first ones are published. */
export async function startDrain(closer: Closer, natsUrl: string): Promise<SteadyDrain> {
	const child = spawn(process.execPath, [import.meta.filename, natsUrl], { stdio: ["pipe", "pipe", "inherit"] });
	const exited = once(child, "exit");
	closer.add(child, () => child.kill());
	let published = 0;
	const lines = createInterface(child.stdout).on("line", (line) => {
		published = Number(line);
	});
	await once(lines, "line");
	return {
		async stop() {
			child.stdin.end();
			const [code] = (await exited) as [number | null];
			if (code !== 0) throw new Error("not everything was published");
			return published;
		},
	};
}

/** Publishes until its parent closes the pipe. One event per message, happening now. */
async function publish(natsUrl: string): Promise<void> {
	const nc = await connect({ servers: natsUrl });
	const js = nc.jetstream();
	const events = new Events({ events: 100_000, until: new Date() });
	let isOver = false;
	process.stdin.resume().once("end", () => {
		isOver = true;
	});
	let published = 0;
	const start = performance.now();
	while (!isOver) {
		const late = Math.floor(((performance.now() - start) / 1_000) * PER_SECOND) - published;
		const due = Math.min(late, MOST_AT_ONCE);
		const messages = Array.from({ length: due }, (_, n) =>
			js.publish("audit.events", toBinary(EventSchema, events.newAt(published + n)), { timeout: 60_000 }),
		);
		await Promise.all(messages);
		published += due;
		process.stdout.write(`${published}\n`);
		await sleep(EVERY_MS);
	}
	await nc.close();
}

if (import.meta.main) await publish(process.argv[2] ?? "");
