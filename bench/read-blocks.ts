import { ConnectError } from "@connectrpc/connect";
import type { AuditClient } from "../src/client/index.ts";
import { Order } from "../src/gen/audit/v1/audit_service_pb.ts";
import type { BlockCounter, Blocks } from "./blocks.ts";
import { type Call, callsOf, NEVER_USED, PAGE_SIZE, type Place, type Request } from "./read-calls.ts";
import { type Events, LARGEST } from "./read-events.ts";

/** How many blocks does each call touch? */
export interface CountedCall extends Omit<Call, "request" | "found" | "frequency"> {
	readonly frequency: Call["frequency"] | "no filter";
	/** Of the dearer of two, */
	readonly blocks: Blocks;
	/** and what the other one read: the service's own few statements beside them are in neither or in one. */
	readonly least: number;
	readonly events: number;
	/** Whether there is another page: where not as many were found as there are, the search ended before it was done. */
	readonly more: boolean;
	/** Instead of an answer: the error's reason. */
	readonly failed?: string;
}

/** The page that is measured has so many before it. */
export const PAGES_BEFORE = 999;

/** @param only chooses calls by a text in their filter or value */
export async function countBlocks(
	client: AuditClient,
	counter: BlockCounter,
	events: Events,
	only = "",
): Promise<CountedCall[]> {
	const counted = [await countFirst(client, counter)];
	const isWanted = ({ filter, value = "" }: { filter: string; value?: string }) => `${filter}: ${value}`.includes(only);
	for (const { run, ...call } of (await pageCallsOf(client, events, PAGES_BEFORE)).filter(isWanted)) {
		counted.push({ ...call, value: "", frequency: "no filter", ...(await count(counter, run)) });
	}
	for (const { request, found, ...call } of callsOf(events).filter(isWanted)) {
		const answer = await count(counter, () => client.query(request));
		// A search that ends early says so by `more`.
		if (found !== undefined && !answer.more && !answer.failed && answer.events !== found) {
			throw new Error(`${call.filter}, ${call.value}, ${call.place}: ${answer.events} events instead of ${found}`);
		}
		counted.push({ ...call, ...answer });
	}
	return counted;
}

/** A connection's first call that looks into every month reads what the catalogue says of each: it does so once. */
async function countFirst(client: AuditClient, counter: BlockCounter): Promise<CountedCall> {
	const { blocks } = await counter.of(() => client.getEvent({ tenantId: LARGEST, id: NEVER_USED }).catch(notFound));
	const named = { filter: "GetEvent, none there", value: "on a new connection", place: "anywhere" } as const;
	return { ...named, frequency: "common", blocks, least: blocks.reading, events: 0, more: false };
}

export const PAGE_CALLS = [
	"page 1",
	"page 1, oldest first",
	"a late page",
	"GetEvent, of a closed month",
	"GetEvent, of the hot month",
	"GetEvent, none there",
] as const;

/** The calls without filters, in the order of PAGE_CALLS. */
export async function pageCallsOf(client: AuditClient, events: Events, pagesBefore: number) {
	const base: Request = { tenantId: LARGEST, pageSize: PAGE_SIZE };
	const { closed, hot } = events.rares;
	const pageToken = await tokenAfter(client, base, pagesBefore * PAGE_SIZE);
	const get = (id: string) => async () => {
		const { event } = await client.getEvent({ tenantId: LARGEST, id });
		return { events: event ? [event] : [], nextPageToken: "" };
	};
	const runs: Record<(typeof PAGE_CALLS)[number], { place: Place; run: () => Promise<Page> }> = {
		"page 1": { place: "anywhere", run: () => client.query(base) },
		"page 1, oldest first": { place: "anywhere", run: () => client.query({ ...base, order: Order.OLDEST_FIRST }) },
		"a late page": { place: "anywhere", run: () => client.query({ ...base, pageToken }) },
		"GetEvent, of a closed month": { place: "closed month", run: get(closed.id) },
		"GetEvent, of the hot month": { place: "hot month", run: get(hot.id) },
		"GetEvent, none there": { place: "anywhere", run: () => get(NEVER_USED)().catch(notFound) },
	};
	return PAGE_CALLS.map((filter) => ({ filter, ...runs[filter] }));
}

interface Page {
	readonly events: readonly unknown[];
	readonly nextPageToken: string;
}

/** Twice, of which the dearer counts: the connection knows the tables by then. */
export async function count(counter: BlockCounter, call: () => Promise<Page>) {
	const once = async () => {
		const { answer, blocks } = await counter.of(() => call().catch(failure));
		return { blocks, events: answer.events.length, more: answer.nextPageToken !== "", ...pickFailed(answer) };
	};
	const [first, second] = [await once(), await once()];
	const [lesser, dearer] = second.blocks.reading < first.blocks.reading ? [second, first] : [first, second];
	return { ...dearer, least: lesser.blocks.reading };
}

/** A search that is refused for taking too long is an answer, too. */
function failure(error: unknown): Page & { failed: string } {
	if (!(error instanceof ConnectError)) throw error;
	return { events: [], nextPageToken: "", failed: error.rawMessage };
}

function pickFailed(answer: Page | (Page & { failed: string })): { failed?: string } {
	return "failed" in answer ? { failed: answer.failed } : {};
}

export function notFound(error: unknown): Page {
	if (!(error instanceof ConnectError) || !/no such event/.test(error.rawMessage)) throw error;
	return { events: [], nextPageToken: "" };
}

/** The token of the page that comes after so many events; of the last one there is where there are fewer. */
export async function tokenAfter(client: AuditClient, request: Request, events: number): Promise<string> {
	let pageToken = "";
	for (let left = events; left > 0; ) {
		const page = await client.query({ ...request, pageSize: Math.min(1_000, left), pageToken });
		if (page.nextPageToken === "") return pageToken;
		pageToken = page.nextPageToken;
		left -= page.events.length;
	}
	return pageToken;
}
