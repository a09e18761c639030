import type { Logger } from "../logger.ts";
import type { Appended, Write } from "../storage/append.ts";
import type { Telemetry } from "../telemetry.ts";
import { inSharedSpan, type Trace, traceIdOf } from "../trace.ts";

export interface FlushOptions {
	readonly append: (writes: readonly Write[]) => Promise<PromiseSettledResult<Appended>[]>;
	readonly telemetry: Telemetry;
	readonly logger: Logger;
}

/** Stores what waited together. @param traces of the calls or messages it came with, as far as they have any */
export type Flush = (
	door: "rpc" | "nats",
	writes: readonly Write[],
	traces: readonly Trace[],
) => Promise<PromiseSettledResult<Appended>[]>;

/** So many ids of calls or messages are listed with a flush; the others are found by their own lines. */
const LISTED = 50;

/** Appends, and tells how that went: to the metrics, to the trace of each call or message, and to the log. */
export function flushThrough({ append, telemetry, logger }: FlushOptions): Flush {
	return async (door, writes, traces) => {
		const startedAt = performance.now();
		const settled = await inSharedSpan(
			"flush",
			traces,
			() => append(writes),
			(result) => {
				const { batch_ids, events, dead_letters } = factsOf(writes, result);
				return { "audit.batch_ids": batch_ids, "audit.events": events, "audit.dead_letters": dead_letters };
			},
		);
		const ms = performance.now() - startedAt;
		const isCommitted = settled.some(({ status }) => status === "fulfilled");
		telemetry.observe("audit_flush_seconds", { door, result: isCommitted ? "committed" : "failed" }, ms / 1000);
		// Why nothing was stored is told by each call's own line, or by the NATS door.
		if (isCommitted && logger.isLevelEnabled("debug")) {
			const facts = { door, ...factsOf(writes, settled), ...idsOf(traces), ...streamRange(writes), ms: Math.round(ms) };
			logger.debug(facts, "flush committed");
		}
		return settled;
	};
}

/** The batches this flush has made, and what it came to. Duplicates are in batches of their own, made before. */
function factsOf(writes: readonly Write[], settled: readonly PromiseSettledResult<Appended>[]) {
	const batchIds = new Set<bigint>();
	let [events, deadLetters] = [0, 0];
	for (const [i, result] of settled.entries()) {
		if (result.status === "rejected") continue;
		const { outcomes, newDeadLetters } = result.value;
		// Of an atomic write with a refused event nothing is stored.
		if (writes[i]?.atomic && outcomes.some(({ status }) => status === "conflict" || status === "refused")) continue;
		deadLetters += newDeadLetters.length;
		for (const outcome of outcomes) {
			if (outcome.status !== "stored") continue;
			events += 1;
			batchIds.add(outcome.event.batchId);
		}
	}
	return { batch_ids: [...batchIds].map(String), events, dead_letters: deadLetters };
}

function idsOf(traces: readonly Trace[]) {
	const requestIds = new Set(traces.flatMap(({ requestId }) => requestId ?? []));
	const traceIds = new Set(traces.flatMap((trace) => traceIdOf(trace) ?? []));
	return {
		...(requestIds.size > 0 && { request_ids: [...requestIds].slice(0, LISTED) }),
		...(traceIds.size > 0 && { trace_ids: [...traceIds].slice(0, LISTED) }),
	};
}

/** Which messages of the stream a flush held. */
function streamRange(writes: readonly Write[]) {
	const seqs = writes.flatMap(({ origins = [], deadLetters = [] }) =>
		[...origins, ...deadLetters].map(({ streamSeq }) => streamSeq),
	);
	const [first] = seqs;
	if (first === undefined) return {};
	let [low, high] = [first, first];
	for (const seq of seqs) {
		if (seq < low) low = seq;
		if (seq > high) high = seq;
	}
	return { first_stream_seq: low.toString(), last_stream_seq: high.toString() };
}
