import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DrainResult } from "./drain.ts";

/** Writes docs/performance.md from the result files: no figure in it is typed by hand. */
export function writeReport(): void {
	const drain = JSON.parse(readFileSync(join(import.meta.dirname, "results/drain.json"), "utf8")) as DrainResult;
	const rate = (perSecond: number) => `${Math.round(perSecond / 100) / 10} k/s`;
	const runs = drain.ratios.map((ratio, i) => {
		const ours = rate(drain.drainEventsPerSecond[i] ?? Number.NaN);
		return `| ${i + 1} | ${ours} | ${rate(drain.copyEventsPerSecond[i] ?? Number.NaN)} | ${ratio.toFixed(2)} |`;
	});
	const text = `# Performance

Written by \`make bench\` from \`bench/results/\`. The machine is shared and noisy: read ratios, not rates.

## NATS drain, against COPY of the same rows into the same table

\`${drain.command}\`: ${drain.events.toLocaleString("en")} events, one per message, hashed, in manifests, verified at the end.
Node ${drain.node}, PostgreSQL ${drain.postgres} (synchronous_commit ${drain.synchronousCommit}), nats-server ${drain.nats} (${drain.natsSyncAlways ? "syncs before acknowledging" : "does not sync before acknowledging"}).

| run | drain | COPY | ratio |
|---|---|---|---|
${runs.join("\n")}

Median ratio: **${drain.medianRatio.toFixed(2)}**. There is no target yet.
`;
	writeFileSync(join(import.meta.dirname, "../docs/performance.md"), text);
}
