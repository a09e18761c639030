import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AccessResult } from "./access.ts";
import type { DrainResult } from "./drain.ts";
import type { NoiseResult } from "./noise.ts";

/** Writes docs/performance.md from the result files: no figure in it is typed by hand. */
export function writeReport(): void {
	const drain = read<DrainResult>("drain");
	const access = read<AccessResult>("access");
	const noise = read<NoiseResult>("noise");
	const beside = (who: string, kind: Exclude<keyof NoiseResult["medianMs"], "alone">) =>
		`| ${who} | ${noise.medianMs[kind].toFixed(1)} ms | **${noise.medianRatio[kind].toFixed(2)}** |`;
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

## Calls with the access layer, against the same without

\`${access.command}\`: keys looked up and reads recorded, against a service that takes every call for an operator's. ${access.callsAtOnce}
calls at once over Connect, ${access.rounds} rounds of ${access.callsPerRound} calls for each, median of the rounds' ratios, verified at the end.
Node ${access.node}, PostgreSQL ${access.postgres}.

| call | with | without | ratio | target |
|---|---|---|---|---|
${accessRow(access, "write", "`WriteEvent`", "0.90")}
${accessRow(access, "query", "`Query`, the same again and again: recorded once in 10 minutes, then counted", "0.90")}
${accessRow(access, "firstQuery", "`Query`, each with a filter of its own: each recorded before its answer", "none")}

## A quiet tenant's writes beside a noisy one's

\`${noise.command}\`: one \`WriteEvent\` after the other, beside a tenant that sends ${noise.noise.atOnce} batches of ${noise.noise.batch} events at a time without a pause.
${noise.rounds} rounds of ${noise.callsPerRound} calls, medians; the limit is \`AUDIT_TENANT_EVENTS_PER_SECOND=${noise.eventsPerSecond}\`. All on one
machine, so the noise takes the callers' processors, too. Node ${noise.node}, PostgreSQL ${noise.postgres}.

| beside | latency | times as long |
|---|---|---|
| nobody | ${noise.medianMs.alone.toFixed(1)} ms | 1 |
${beside("the noisy tenant, limited, which waits as it is told", "heeding")}
${beside("the noisy tenant, limited, which does not: its batches are decoded before they are counted", "unheeding")}
${beside("the noisy tenant, not limited", "unlimited")}
`;
	writeFileSync(join(import.meta.dirname, "../docs/performance.md"), text);
}

function read<T>(name: string): T {
	return JSON.parse(readFileSync(join(import.meta.dirname, `results/${name}.json`), "utf8")) as T;
}

function accessRow({ loads }: AccessResult, load: keyof AccessResult["loads"], call: string, target: string): string {
	const { withPerSecond, withoutPerSecond, medianRatio } = loads[load];
	return `| ${call} | ${Math.round(withPerSecond)}/s | ${Math.round(withoutPerSecond)}/s | **${medianRatio.toFixed(2)}** | ${target} |`;
}
