import type { Phase, PhaseResult, ReadResult } from "./read.ts";
import type { CountedCall } from "./read-blocks.ts";
import { PAGE_SIZE, type Place } from "./read-calls.ts";
import type { IndexedDrainResult } from "./read-drain.ts";
import type { ExportResult } from "./read-export.ts";
import type { Compared, GrowthOfCall } from "./read-times.ts";

/** The section on reading of docs/performance.md. */
export function readSection(result: ReadResult): string {
	const sizes = result.sizes.map(({ events }) => `${events / 1e6} M`);
	const drained = result.sizes.map(({ drainedPerSecond }) => `${Math.round(drainedPerSecond)}/s`).join(" and ");
	return `
## Reading, in a log of ${sizes.join(" and one of ")} events

\`${result.command}\`: 24 months, 100 tenants, the one that is read has half. Each service in a process of its own, called over HTTP/2
that is kept open; at rest, and while events come in by NATS (${drained} stored). Blocks are 8 KiB, found in memory or read, by the role
that reads, planning included (\`pg_stat_statements\`). Times are medians of alternating calls in the same run, in milliseconds. Verified
at the end. Node ${result.node}, PostgreSQL ${result.postgres}.

| | log | at rest | draining | target |
|---|---|---|---|---|
${result.sizes.flatMap((size, n) => targetRows(size.phases, sizes[n] ?? "", result.pagesBefore + 1)).join("\n")}
${growthRow(result.growth, sizes)}
${result.sizes.map(({ bytes }, n) => `| all indexes / heap, with TOAST | ${sizes[n]} | **${(bytes.indexes / bytes.heap).toFixed(2)}** (${megabytes(bytes.indexes)} / ${megabytes(bytes.heap)}) | | 0.5 |`).join("\n")}

"Rare" are what at most 30 events of the tenant have and what none has, each asked for in the whole log, in a closed month and in the
one that is written to. The time of a rare value includes that the search is recorded before it is answered.

### Blocks per call

At rest, in the whole log / a closed month / the hot month; "…" where the search ended before it had gone through all.

| filter | value | ${sizes.join(" | ")} | most while draining |
|---|---|${sizes.map(() => "---|").join("")}---|
${blockRows(result).join("\n")}

### First pages of filters and pairs of them, ${sizes[1]} against ${sizes[0]}

| filter | at rest | draining |
|---|---|---|
${growthRows(result.growth).join("\n")}
`;
}

/** What the target of blocks is for. */
export function isBounded({ frequency, value }: CountedCall): boolean {
	return ["no filter", "rare", "absent"].includes(frequency) || value.startsWith("DENIED");
}

function targetRows(phases: Record<Phase, PhaseResult>, size: string, page: number): string[] {
	const row = (what: string, of: (result: PhaseResult) => string, target: string) =>
		`| ${what} | ${size} | ${of(phases["at rest"])} | ${of(phases.draining)} | ${target} |`;
	return [
		row("most blocks of a call without filter, for a rare value or for what was denied", mostBlocks, "1,000"),
		row("page 1 / its SQL through bare `pg`", ({ firstPage }) => compared(firstPage), "1.3"),
		row(`page ${page.toLocaleString("en")} / page 1`, ({ latePage }) => compared(latePage), "1.2"),
		row(
			"rare values, p99",
			({ rare }) => `**${rare.p99Ms.toFixed(1)} ms** (${rare.calls} calls, median ${rare.medianMs.toFixed(1)})`,
			"50 ms",
		),
	];
}

function mostBlocks({ blocks }: PhaseResult): string {
	const [worst] = blocks.filter(isBounded).sort((a, b) => b.blocks.reading - a.blocks.reading);
	if (!worst) return "";
	return `**${worst.blocks.reading.toLocaleString("en")}** (${worst.filter} ${worst.value}, ${worst.place})`;
}

function growthRow(growth: ReadResult["growth"], sizes: readonly string[]): string {
	const of = (phase: Phase) => {
		const [worst] = growth[phase].toSorted((a, b) => b.ratio - a.ratio);
		const over = growth[phase].filter(({ ratio }) => ratio > 1.5).length;
		return worst ? `**${worst.ratio.toFixed(2)}** (${worst.name}); ${over} of ${growth[phase].length} above 1.5` : "";
	};
	return `| single filters and pairs, ${sizes[1]} / ${sizes[0]}: the worst | | ${of("at rest")} | ${of("draining")} | 1.5 |`;
}

function blockRows({ sizes }: ReadResult): string[] {
	const keyOf = ({ filter, value }: CountedCall) => `${filter} | ${value}`;
	const keys = new Set(sizes.flatMap(({ phases }) => phases["at rest"].blocks.map(keyOf)));
	return [...keys].map((key) => {
		const of = (phases: Record<Phase, PhaseResult>, phase: Phase) =>
			phases[phase].blocks.filter((c) => keyOf(c) === key);
		const cells = sizes.map(({ phases }) => {
			const places: Place[] = ["anywhere", "closed month", "hot month"];
			const found = places.map((place) => of(phases, "at rest").find((call) => call.place === place));
			return found.map((call) => (call ? blocksOf(call) : "–")).join(" / ");
		});
		const draining = sizes.flatMap(({ phases }) => of(phases, "draining").map((call) => call.blocks.reading));
		return `| ${key} | ${cells.join(" | ")} | ${Math.max(...draining).toLocaleString("en")} |`;
	});
}

function blocksOf({ blocks, failed, more, events }: CountedCall): string {
	if (failed !== undefined) return "refused";
	return `${blocks.reading.toLocaleString("en")}${more && events < PAGE_SIZE ? " …" : ""}`;
}

function growthRows(growth: Record<Phase, readonly GrowthOfCall[]>): string[] {
	return growth["at rest"].map((call, n) => {
		const draining = growth.draining[n];
		return `| ${call.name} | ${compared(call)}${call.more ? " …" : ""} | ${draining ? compared(draining) : ""} |`;
	});
}

function compared({ medianMs, againstMs, ratio }: Compared): string {
	return `**${ratio.toFixed(2)}** (${medianMs.toFixed(1)} / ${againstMs.toFixed(1)})`;
}

function megabytes(bytes: number): string {
	return `${Math.round(bytes / 1e6).toLocaleString("en")} MB`;
}

/** The section on exports. */
export function exportSection(result: ExportResult): string {
	const { rowsPerRound, rounds, exportSeconds, copySeconds, exportBytes, copyBytes, firstByteMs } = result;
	const rate = (seconds: number) => `${(rowsPerRound / seconds / 1_000).toFixed(1)} k/s`;
	return `
## Exports, against psql's \\copy of a select of the same cells

\`${result.command}\`: all ${rowsPerRound.toLocaleString("en")} events of a tenant as CSV into a file, ${rounds} rounds, in turns the first. ${(rowsPerRound * rounds).toLocaleString("en")}
events in all went through the service whose memory is told: the most its process had resident at any time, ${megabytes(result.restingBytes)}
before it was called. Node ${result.node}, PostgreSQL ${result.postgres}.

| | export | \\copy | | target |
|---|---|---|---|---|
| events | ${rate(exportSeconds)} | ${rate(copySeconds)} | **${result.ratio.toFixed(2)}** | 0.5 |
| file | ${megabytes(exportBytes)} | ${megabytes(copyBytes)} | | |
| first byte, the slowest | **${Math.round(firstByteMs)} ms** | | | 1,000 ms |
| memory | **${megabytes(result.peakBytes)}** | | | 200 MB |
`;
}

/** The section on what the indexes cost a drain. */
export function indexedDrainSection(result: IndexedDrainResult): string {
	const rows = result.ratios.map((ratio, i) => {
		const [indexed, bare] = [result.withPerSecond[i], result.withoutPerSecond[i]].map((rate) => Math.round(rate ?? 0));
		return `| ${i + 1} | ${indexed}/s | ${bare}/s | ${ratio.toFixed(2)} |`;
	});
	return `
## The NATS drain with the indexes of searches, against the same without

\`${result.command}\`: ${result.events.toLocaleString("en")} events like those above, one per message, each trail verified. Node ${result.node}.

| run | with | without | ratio |
|---|---|---|---|
${rows.join("\n")}

Median ratio: **${result.medianRatio.toFixed(2)}**. Target: 0.95, and 0.9 where the others need it.
`;
}
