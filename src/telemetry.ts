import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "@prometheus-io/client";

/** What a label may say: one of these, or `word`: a constant of our code, such as an error's code or reason. Never what a caller sent. */
type LabelValues = readonly string[] | "word";

interface Metric {
	readonly type: "counter" | "gauge" | "histogram";
	readonly labels: Readonly<Record<string, LabelValues>>;
	readonly help: string;
	/** Of a histogram: the upper bounds. */
	readonly buckets?: readonly number[];
}

const DOOR = ["rpc", "nats"] as const;
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/**
 * Every metric of the service's own: the one table that `/metrics`, documentation and tests read. What is counted is what
 * one replica did since it started. No metric names a tenant, a key or anything else a caller chooses.
 */
export const METRICS = {
	audit_events_accepted_total: {
		type: "counter",
		labels: { door: DOOR },
		help: "Events answered with OK or acknowledged, after COMMIT: those stored and those recognised as duplicates.",
	},
	audit_events_stored_total: {
		type: "counter",
		labels: { door: [...DOOR, "service"] },
		help: "Events committed. service: made by the service itself, such as a new tenant's first event and who read a log, and redriven dead letters.",
	},
	audit_events_duplicate_total: {
		type: "counter",
		labels: { door: DOOR },
		help: "Events that were stored before with the same content: retries and redeliveries.",
	},
	audit_events_rejected_total: {
		type: "counter",
		labels: { door: DOOR, reason: "word" },
		help: "Events refused for good: answered with an error, or from NATS made dead letters. A request that cannot be read counts as one. Not counted: what may be tried again (overload, database away) and callers that are not known.",
	},
	audit_dead_letters_total: {
		type: "counter",
		labels: { reason: "word" },
		help: "Dead letters stored. One that is delivered and stored again is not counted again.",
	},
	audit_batch_events: {
		type: "histogram",
		labels: {},
		help: "Events per batch: per committed transaction, whatever door they came by.",
		buckets: [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000],
	},
	audit_flush_seconds: {
		type: "histogram",
		labels: { door: DOOR, result: ["committed", "failed"] },
		help: "Time to store what waited together, COMMIT included. failed: nothing of it is known to be stored.",
		buckets: SECONDS,
	},
	audit_queue_events: {
		type: "gauge",
		labels: {},
		help: "Events of calls that wait for their turn to be stored. Above 20,000 callers are turned away.",
	},
	audit_queue_bytes: { type: "gauge", labels: {}, help: "Their bytes. Above 64 MiB callers are turned away." },
	audit_queue_oldest_seconds: { type: "gauge", labels: {}, help: "How long the oldest of them has waited; 0 if none." },
	audit_nats_connected: {
		type: "gauge",
		labels: {},
		help: "1 while the NATS door is connected and its stream and consumer are as they should be. Absent without NATS.",
	},
	audit_nats_consumer_pending: {
		type: "gauge",
		labels: {},
		help: "Messages in the stream that were not yet delivered to any replica, when last looked (every 10 s).",
	},
	audit_nats_ack_pending: {
		type: "gauge",
		labels: {},
		help: "Messages delivered to some replica and not yet acknowledged, when last looked (every 10 s).",
	},
	audit_nats_held_messages: {
		type: "gauge",
		labels: {},
		help: "Messages this replica has taken in and not yet acknowledged.",
	},
	audit_nats_oldest_seconds: {
		type: "gauge",
		labels: {},
		help: "How long this replica has held the oldest message that is not yet stored; 0 if none.",
	},
	audit_partitions_ahead: {
		type: "gauge",
		labels: {},
		help: "Months after this one whose partitions are known to exist. 1 or more is well; -1: not even this month's is.",
	},
	audit_call_seconds: {
		type: "histogram",
		labels: { call: "word", code: "word" },
		help: "Time from a request to the end of its answer, by RPC or route, and by the code it ended with: ok, canceled (the caller left), or the error's.",
		buckets: SECONDS,
	},
	audit_in_flight_bytes: {
		type: "gauge",
		labels: {},
		help: "Bytes of requests being read or handled. Above 64 MiB callers are turned away.",
	},
	audit_connections: { type: "gauge", labels: { port: ["http", "grpc"] }, help: "Open connections." },
	audit_token_keys_age_seconds: {
		type: "gauge",
		labels: {},
		help: "How long ago the keys that tokens (JWT) are checked with were fetched: normally less than 300. Above 86,400 no token is believed. Absent without AUDIT_JWT_JWKS_URL, and while there are none.",
	},
	audit_tls_certificate_expires_seconds: {
		type: "gauge",
		labels: {},
		help: "For how long the certificate that is served is still good; below 0 it is not. Absent without TLS_CERT_FILE.",
	},
	audit_build_info: {
		type: "gauge",
		labels: { version: "word", node: "word", postgres: "word", nats: "word" },
		help: "Always 1. Versions of the service and of what it runs on; empty while not known.",
	},
} as const satisfies Record<string, Metric>;

type Metrics = typeof METRICS;
type NameOf<T extends Metric["type"]> = {
	[N in keyof Metrics]: Metrics[N]["type"] extends T ? N : never;
}[keyof Metrics];
type LabelsOf<N extends keyof Metrics> = {
	readonly [L in keyof Metrics[N]["labels"]]: Metrics[N]["labels"][L] extends readonly (infer V)[] ? V : string;
};
type Labels = Record<string, string>;
export type Sample<N extends keyof Metrics> = { readonly labels: LabelsOf<N>; readonly value: number };

/** What is told about the work: counts and sizes, per batch rather than per event where there is a choice. */
export class Telemetry {
	readonly #registry = new Registry();
	readonly #counters = new Map<string, Counter<string>>();
	readonly #histograms = new Map<string, Histogram<string>>();

	constructor() {
		for (const [name, metric] of Object.entries<Metric>(METRICS)) {
			const shape = { name, help: metric.help, labelNames: Object.keys(metric.labels), registers: [this.#registry] };
			if (metric.type === "counter") {
				const counter = new Counter<string>(shape);
				// A rate can be taken of what was there from the start.
				for (const labels of allLabels(metric.labels)) counter.inc(labels, 0);
				this.#counters.set(name, counter);
			} else if (metric.type === "histogram") {
				this.#histograms.set(name, new Histogram<string>({ ...shape, buckets: [...(metric.buckets ?? [])] }));
			}
		}
	}

	count<N extends NameOf<"counter">>(name: N, labels: LabelsOf<N>, by = 1): void {
		if (by > 0) this.#counters.get(name)?.inc(labels as Labels, by);
	}

	observe<N extends NameOf<"histogram">>(name: N, labels: LabelsOf<N>, value: number): void {
		this.#histograms.get(name)?.observe(labels as Labels, value);
	}

	/** Says where a gauge is read whenever somebody asks; no samples: it is absent. To be called once for each. */
	gauge<N extends NameOf<"gauge">>(name: N, read: () => readonly Sample<N>[] | Promise<readonly Sample<N>[]>): void {
		const { help, labels } = METRICS[name];
		new Gauge<string>({
			name,
			help,
			labelNames: Object.keys(labels),
			registers: [this.#registry],
			async collect() {
				const samples = await read();
				this.reset();
				// A gauge without labels is 0 unless it is removed.
				this.remove({});
				for (const sample of samples) this.set(sample.labels as Labels, sample.value);
			},
		});
	}

	/** All metrics as text, the process's own included. */
	async render(format: "prometheus" | "openmetrics"): Promise<{ contentType: string; text: string }> {
		const text = (await this.#registry.metrics()) + (await processMetrics().metrics());
		if (format === "prometheus") return { contentType: Registry.PROMETHEUS_CONTENT_TYPE, text };
		return { contentType: Registry.OPENMETRICS_CONTENT_TYPE, text: asOpenMetrics(text) };
	}
}

/** One sample of a gauge without labels. */
export function value(of: number): readonly [{ readonly labels: Record<never, string>; readonly value: number }] {
	return [{ labels: {}, value: of }];
}

let ofProcess: Registry | undefined;

/** CPU, memory, event loop, garbage collection: there is one process, however many services a test runs in it. */
function processMetrics(): Registry {
	if (!ofProcess) {
		ofProcess = new Registry();
		collectDefaultMetrics({ register: ofProcess });
	}
	return ofProcess;
}

/**
 * OpenMetrics names a counter without the `_total` of its samples, allows no empty lines and has an end. Not left to the
 * library: asked for both formats in turn it loses the counters' names.
 */
function asOpenMetrics(text: string): string {
	const families = text.replaceAll(/\n{2,}/g, "\n");
	const counters = new Set([...families.matchAll(/^# TYPE (\S+_total) counter$/gm)].map(([, name]) => name));
	const renamed = families.replaceAll(/^# (HELP|TYPE) (\S+)_total /gm, (line, what: string, name: string) =>
		counters.has(`${name}_total`) ? `# ${what} ${name} ` : line,
	);
	return `${renamed.trimEnd()}\n# EOF\n`;
}

/** Every combination of label values that is known beforehand; none if one label's values are not. */
function allLabels(labels: Metric["labels"]): Record<string, string>[] {
	return Object.entries(labels).reduce<Record<string, string>[]>(
		(all, [name, values]) =>
			values === "word" ? [] : all.flatMap((some) => values.map((one) => ({ ...some, [name]: one }))),
		[{}],
	);
}
