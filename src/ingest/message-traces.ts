import type { Appended } from "../storage/append.ts";
import type { Origin } from "../storage/dead-letters.ts";
import { endTrace, startMessageTrace, type Trace } from "../trace.ts";

/**
 * The traces of those messages of a flush whose headers hold `traceparent` or `X-Request-Id`; most hold neither.
 *
 * @param items the messages' events, those of one message side by side
 */
export function startMessageTraces(items: readonly { readonly origin: Origin }[]): Trace[] {
	const traces: Trace[] = [];
	let last: Origin["headers"] | undefined;
	for (const { origin } of items) {
		const { headers, streamSeq } = origin;
		// The events of one message share its headers.
		if (headers === last) continue;
		last = headers;
		const names = Object.keys(headers);
		if (names.length === 0) continue;
		const read = (wanted: string) => {
			const values = names.filter((name) => name.toLowerCase() === wanted).flatMap((name) => headers[name] ?? []);
			return values.length === 1 ? values[0] : undefined;
		};
		const trace = startMessageTrace(read, {
			"messaging.system": "nats",
			// Not the subject: it names a tenant.
			"messaging.destination.name": "audit.events",
			"messaging.message.id": streamSeq.toString(),
		});
		if (trace) traces.push(trace);
	}
	return traces;
}

/** Ends them when their flush is decided. */
export function endMessageTraces(traces: readonly Trace[], settled: PromiseSettledResult<Appended> | undefined): void {
	const outcome = settled?.status === "fulfilled" ? {} : { failure: "unavailable" };
	for (const trace of traces) endTrace(trace, outcome);
}
