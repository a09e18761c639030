import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AccessResult } from "./access.ts";
import type { DrainResult } from "./drain.ts";
import type { Noise, NoisyResult, QuietCall } from "./noisy.ts";
import type { OracleResult } from "./oracle.ts";
import { exportSection, indexedDrainSection, readSection } from "./report-read.ts";

/** Writes docs/performance.md from the result files: no figure in it is typed by hand. */
export function writeReport(): void {
	const drain = read<DrainResult>("drain");
	const access = read<AccessResult>("access");
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

${noisySection(read<NoisyResult>("noisy"))}
${oracleSection(read<OracleResult>("oracle"))}${ifMeasured("read", readSection)}${ifMeasured("read-export", exportSection)}${ifMeasured("read-drain", indexedDrainSection)}`;
	writeFileSync(join(import.meta.dirname, "../docs/performance.md"), text);
}

function read<T>(name: string): T {
	return JSON.parse(readFileSync(resultFile(name), "utf8")) as T;
}

/** What takes an hour is not measured by everybody. */
function ifMeasured<T>(name: string, section: (result: T) => string): string {
	return existsSync(resultFile(name)) ? section(read<T>(name)) : "";
}

function resultFile(name: string): string {
	return join(import.meta.dirname, `results/${name}.json`);
}

function accessRow({ loads }: AccessResult, load: keyof AccessResult["loads"], call: string, target: string): string {
	const { withPerSecond, withoutPerSecond, medianRatio } = loads[load];
	return `| ${call} | ${Math.round(withPerSecond)}/s | ${Math.round(withoutPerSecond)}/s | **${medianRatio.toFixed(2)}** | ${target} |`;
}

function noisySection({ modes, ...result }: NoisyResult): string {
	const { rounds, callsPerRound, limitEventsPerSecond, batch } = result;
	const sent = { batches: `in batches of ${batch}`, singles: "one by one" };
	const row = (mode: keyof typeof modes, kind: Noise, call: QuietCall) => {
		const { alone } = modes[mode];
		const { beside, ratio, sentPerSecond, storedPerSecond } = modes[mode][kind];
		const noise = `${sent[kind]}: ${Math.round(sentPerSecond)}/s, ${Math.round(storedPerSecond)}/s stored`;
		const figures = (["p50", "p99"] as const).map((which) => {
			const millis = `${alone[call][which].toFixed(1)} → ${beside[call][which].toFixed(1)} ms`;
			return `${millis} | **${ratio[call][which].toFixed(2)}**`;
		});
		return `| ${mode} | ${noise} | \`${call === "write" ? "WriteEvent" : "Query"}\` | ${figures.join(" | ")} |`;
	};
	const rows = (["off", "on"] as const).flatMap((mode) =>
		(["batches", "singles"] as const).flatMap((kind) =>
			(["write", "query"] as const).map((call) => row(mode, kind, call)),
		),
	);
	return `## One tenant beside another that sends ten times what it may

\`${result.command}\`: a quiet tenant's calls, ${callsPerRound} of each kind a round at a steady pace, alone and beside a tenant that tries to send
${10 * limitEventsPerSecond} events a second and heeds no refusal; without limits, and with \`AUDIT_TENANT_EVENTS_PER_SECOND=${limitEventsPerSecond}\`. Medians of ${rounds} rounds,
verified at the end. The noisy process has the same two cores as the service and PostgreSQL. Node ${result.node}, PostgreSQL ${result.postgres}.

| limits | the noisy tenant's events | the quiet one's | p50 alone → beside | ratio | p99 alone → beside | ratio |
|---|---|---|---|---|---|---|
${rows.join("\n")}

A limit bounds what a tenant makes the database do. What refusing costs is bounded by holding each refusal back for half a
second: who waits for it sends nothing meanwhile, and an address has so many calls at one time.
`;
}

function oracleSection({ command, samples, calls, postgres, node }: OracleResult): string {
	const rows = Object.entries(calls).map(
		([name, { thereMs, notThereMs, ratio }]) =>
			`| ${name} | ${thereMs.toFixed(2)} ms | ${notThereMs.toFixed(2)} ms | **${ratio.toFixed(2)}** |`,
	);
	return `## What another tenant has, against what nobody has

\`${command}\`: does the time of a refusal tell whether the thing exists? Medians of ${samples.toLocaleString("en")} answers each, in random order;
1 is what is wanted. The answers themselves are the same. Of the keys, the id exists or not; the secret is always wrong.
Node ${node}, PostgreSQL ${postgres}.

| named | there | not there | ratio |
|---|---|---|---|
${rows.join("\n")}

A key that is in use is known without a look-up, so its id can be told from one that was never used. The id is no secret:
it stands in logs and events; the secret has 256 bits. Likewise, an id that does not exist is remembered for 5 s and one that
does for 15 s, so that between the two a second try takes one look-up more.
`;
}
