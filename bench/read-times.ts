import type { AuditClient } from "../src/client/index.ts";
import type { BareReader } from "./bare-reader.ts";
import { tokenAfter } from "./read-blocks.ts";
import { callsOf, PAGE_SIZE, pairsOf, type Request } from "./read-calls.ts";
import { ACTIONS, type Events, LARGEST } from "./read-events.ts";

/** How long do calls take, each against what it is compared with in the same run? All times are milliseconds. */

/** One database, and a service on it. */
export interface Measured {
	readonly events: Events;
	readonly client: AuditClient;
	readonly bare: BareReader;
}

export interface Compared {
	readonly medianMs: number;
	readonly againstMs: number;
	/** The first through the second. */
	readonly ratio: number;
}

/** How often a call is measured, and for how long at most: what takes long is measured less often. */
export interface Effort {
	readonly rounds: number;
	readonly budgetMs: number;
	/** As many rare values, */
	readonly rareCalls: number;
	/** and for how long at most. */
	readonly rareBudgetMs: number;
}

export const FULL: Effort = { rounds: 61, budgetMs: 1_500, rareCalls: 300, rareBudgetMs: 30_000 };
/** To see that everything works. */
export const QUICK: Effort = { rounds: 1, budgetMs: 0, rareCalls: 20, rareBudgetMs: 5_000 };
const FEWEST_ROUNDS = 3;
const BASE: Request = { tenantId: LARGEST, pageSize: PAGE_SIZE };

/** The first page over HTTP, against its SQL through bare `pg`. */
export async function timeFirstPage({ client, bare }: Measured, effort: Effort): Promise<Compared> {
	const statements = await bare.statementsOf(BASE);
	return compare(
		effort,
		() => client.query(BASE),
		() => bare.send(statements),
	);
}

/** The page after so many others, against the first one. */
export async function timeLatePage({ client }: Measured, pagesBefore: number, effort: Effort): Promise<Compared> {
	const pageToken = await tokenAfter(client, BASE, pagesBefore * PAGE_SIZE);
	return compare(
		effort,
		() => client.query({ ...BASE, pageToken }),
		() => client.query(BASE),
	);
}

export interface GrowthOfCall extends Compared {
	readonly name: string;
	/** At the larger size: whether the search ended before it was done. */
	readonly more: boolean;
}

/** The first page of each single filter, and of the likeliest pairs, at the larger size against the same at the smaller. */
export async function timeGrowth(large: Measured, small: Measured, effort: Effort): Promise<GrowthOfCall[]> {
	const questions = ({ events }: Measured) => [
		...callsOf(events)
			.filter(({ place }) => place === "anywhere")
			.map(({ filter, value, request }) => ({ name: `${filter}: ${value}`, request })),
		...pairsOf(events),
	];
	const ofSmall = questions(small);
	const grown: GrowthOfCall[] = [];
	for (const [n, { name, request }] of questions(large).entries()) {
		const { events, nextPageToken } = await large.client.query(request);
		const compared = await compare(
			effort,
			() => large.client.query(request),
			() => small.client.query(ofSmall[n]?.request ?? {}),
		);
		grown.push({ name, more: nextPageToken !== "" && events.length < PAGE_SIZE, ...compared });
	}
	return grown;
}

export interface RareTimes {
	readonly calls: number;
	readonly medianMs: number;
	readonly p99Ms: number;
}

/**
 * Searches for what few events have or none, each for something else: so each is also recorded before it is answered.
 * Too few calls tell that time was up.
 */
export async function timeRare({ client, events }: Measured, effort: Effort): Promise<RareTimes> {
	const times: number[] = [];
	const begun = performance.now();
	for (let n = 0; n < effort.rareCalls && performance.now() - begun < effort.rareBudgetMs; n += 1) {
		const request = { ...BASE, ...rareRequest(events, n) };
		times.push(await millisOf(() => client.query(request)));
	}
	return { calls: times.length, medianMs: quantile(times, 0.5), p99Ms: quantile(times, 0.99) };
}

/** Of one call in two the value is there, in an event of any month. */
function rareRequest(events: Events, n: number): Request {
	// A prime walks all over the set; even numbers are the largest tenant's.
	const { event } = events.at(((n * 7_919_003) % (events.set.events / 2)) * 2);
	const absent: Request[] = [
		{ actorIds: [`nobody-${n}`] },
		{ actorEmails: [`nobody-${n}@example.com`] },
		{ resourceId: `none-${n}` },
		{ resourceType: `none-${n}` },
		{ requestId: `none-${n}` },
		{ traceId: `none-${n}` },
		{ actions: [`${ACTIONS[0]?.name}-${n}`] },
		{ sources: [`none-${n}`] },
	];
	const requestId = event.context?.requestId;
	const traceId = event.context?.traceId;
	const there: Request[] = [
		{ ids: [event.id] },
		...(requestId ? [{ requestId }] : []),
		...(traceId ? [{ traceId }] : []),
	];
	const from = n % 2 === 0 ? absent : there;
	return from[(n >> 1) % from.length] ?? {};
}

/** The medians of alternating calls, warmed up. */
async function compare(effort: Effort, one: () => Promise<unknown>, other: () => Promise<unknown>): Promise<Compared> {
	const firstMs = (await millisOf(one)) + (await millisOf(other));
	const rounds = Math.max(FEWEST_ROUNDS, Math.min(effort.rounds, Math.floor(effort.budgetMs / firstMs)));
	const times: [number[], number[]] = [[], []];
	for (let round = 0; round < rounds; round += 1) {
		const first = round % 2;
		times[first as 0 | 1].push(await millisOf(first === 0 ? one : other));
		times[(1 - first) as 0 | 1].push(await millisOf(first === 0 ? other : one));
	}
	const [medianMs, againstMs] = [quantile(times[0], 0.5), quantile(times[1], 0.5)];
	return { medianMs, againstMs, ratio: medianMs / againstMs };
}

async function millisOf(call: () => Promise<unknown>): Promise<number> {
	const start = performance.now();
	await call();
	return performance.now() - start;
}

function quantile(numbers: readonly number[], part: number): number {
	const sorted = numbers.toSorted((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}
