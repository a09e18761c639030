import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BlockCounter, COUNTING } from "../../bench/blocks.ts";
import { count, notFound, PAGE_CALLS, pageCallsOf } from "../../bench/read-blocks.ts";
import { callsOf, NEVER_USED } from "../../bench/read-calls.ts";
import { fillDatabase } from "../../bench/read-data.ts";
import { Events, LARGEST } from "../../bench/read-events.ts";
import { createAuditClient } from "../../src/client/index.ts";
import { Closer } from "../../src/closer.ts";
import { loadConfig } from "../../src/config.ts";
import { createLogger } from "../../src/logger.ts";
import { startServer } from "../../src/server.ts";
import { migrate } from "../../src/storage/migrate.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createKey } from "../support/rpc-service.ts";
import { startOwnPostgres, testSecret } from "../support/services.ts";

/**
 * What a call costs does not grow with the log: the blocks it makes the database touch, counted at the public door of the
 * service, in a log of 24 months and in one four times as long. `node bench/read.ts` counts the same at 1 and 10 million events.
 */

/** Of any call, at any size. */
const MOST_BLOCKS = 1_000;
/**
 * How much more the longer log may cost: what a search has to look at in each month is a few blocks whatever it holds, and one
 * more where an index has grown by a level. What is found has to be fetched.
 */
const GROWTH = { factor: 1.3, blocks: 350, blocksPerEvent: 3 };
/** No index knows words, nor when events were recorded: these are gone through, 5 seconds for a page (docs/decisions/0024-indexes.md). */
const WITHOUT_INDEX = new Set(["recorded_after", "text"]);
const SIZES = { small: 15_000, large: 60_000 };
/** The smaller log has not a thousand pages. */
const PAGES_BEFORE = 120;

const until = new Date();
const sets = {
	small: new Events({ events: SIZES.small, until }),
	large: new Events({ events: SIZES.large, until }),
};
type Size = keyof typeof SIZES;
const closer = new Closer();
const doors = {} as Record<Size, Awaited<ReturnType<typeof openDoor>>>;

beforeAll(async () => {
	const postgres = closer.add(await startOwnPostgres({ settings: COUNTING }), (p) => p.stop());
	for (const size of ["small", "large"] as const) doors[size] = await openDoor(postgres.url, size);
}, 300_000);

afterAll(async () => {
	try {
		await checkTrail({ databaseUrl: doors.small.url, secret: testSecret() });
	} finally {
		await closer.close();
	}
});

/** A database of that size, and a service on it. */
async function openDoor(adminUrl: string, size: Size) {
	const admin = new Client({ connectionString: adminUrl });
	await admin.connect();
	await admin.query(`CREATE DATABASE ${size}`);
	await admin.end();
	const url = adminUrl.replace(/\/postgres$/, `/${size}`);
	await migrate({ databaseUrl: url, secret: testSecret() });
	await fillDatabase(url, testSecret(), sets[size].set, { processes: 2 });
	const env = { DATABASE_URL: url, AUDIT_SECRET: testSecret(), HTTP_PORT: "0", GRPC_PORT: "0" };
	const settings = { AUDIT_DRAIN_NOTICE_MS: "0", AUDIT_DRAIN_MS: "500" };
	const config = loadConfig({ ...env, ...settings });
	const server = closer.add(await startServer(config, createLogger("silent")), (s) => s.close());
	const key = await createKey(url, "operator", [LARGEST]);
	const client = createAuditClient({ url: server.httpUrl, key });
	// The connection gets to know every month's table.
	await client.getEvent({ tenantId: LARGEST, id: NEVER_USED }).catch(notFound);
	const pageCalls = await pageCallsOf(client, sets[size], PAGES_BEFORE);
	return { url, client, pageCalls, counter: await BlockCounter.open(closer, url) };
}

type Counted = Awaited<ReturnType<typeof count>>;

function expectBounded(small: Counted, large: Counted): void {
	expect(large.blocks.reading).toBeLessThanOrEqual(MOST_BLOCKS);
	const found = Math.max(0, large.events - small.events);
	const most = small.least * GROWTH.factor + GROWTH.blocks + found * GROWTH.blocksPerEvent;
	expect(large.blocks.reading).toBeLessThanOrEqual(most);
}

test("the counter counts what is read: a walk through the tenant's whole log touches more than its events' blocks", async () => {
	const { client, counter } = doors.small;
	const { blocks } = await counter.of(() => client.query({ tenantId: LARGEST, pageSize: 1_000 }));
	expect(blocks.reading).toBeGreaterThan(150);
	expect((await counter.of(() => Promise.resolve())).blocks.reading).toBeLessThan(20);
});

describe("without a filter", () => {
	test.each(PAGE_CALLS.map((name, n) => ({ name, n })))("$name", async ({ n }) => {
		const counted = async (size: Size) => {
			const { counter, pageCalls } = doors[size];
			const call = pageCalls[n];
			if (!call) throw new Error("no such call");
			return count(counter, call.run);
		};
		expectBounded(await counted("small"), await counted("large"));
	});
});

const calls = { small: callsOf(sets.small), large: callsOf(sets.large) };
const named = calls.large.map((call, n) => ({
	filter: call.filter as string,
	name: `${call.filter}: ${call.value} (${call.frequency}), ${call.place}`,
	frequency: call.frequency,
	isDenied: call.value.startsWith("DENIED"),
	n,
}));

async function countedAt(size: Size, n: number) {
	const call = calls[size][n];
	if (!call) throw new Error("no such call");
	const { client, counter } = doors[size];
	const counted = await count(counter, () => client.query(call.request));
	// All there are, in one answer.
	if (call.found !== undefined) expect(counted).toMatchObject({ events: call.found, more: false });
	return counted;
}

describe.each(["rare", "absent"])("what is %s", (frequency) => {
	test.each(named.filter((call) => call.frequency === frequency && !WITHOUT_INDEX.has(call.filter)))(
		"$name",
		async ({ n }) => {
			expectBounded(await countedAt("small", n), await countedAt("large", n));
		},
	);
});

describe("what was denied", () => {
	test.each(named.filter(({ isDenied }) => isDenied))("$name", async ({ n }) => {
		expectBounded(await countedAt("small", n), await countedAt("large", n));
	});
});
