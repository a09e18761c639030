import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditClient, createAuditClient, toAuditError } from "../../src/client/index.ts";
import type { Micros } from "../../src/event/event.ts";
import { microsOf, rfc3339, timestampOf } from "../../src/event/time.ts";
import { Order, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { checkTrail } from "../support/check-trail.ts";
import {
	ACTIONS,
	anyFilters,
	EMAILS,
	expected,
	type Given,
	hasNamesOnly,
	keyOf,
	MEANINGS,
	optionsOf,
	paramsOf,
	requestOf,
	TEXTS,
	type Value,
	type Written,
} from "../support/filter-oracle.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { testSecret } from "../support/services.ts";

/** Every filter at every door of a running service, against what it means in plain JavaScript. */

/** The fields of a search that choose events: whatever the contract has, but these. `include_reads` has tests of its own. */
const FIELDS = QueryRequestSchema.fields.filter(
	({ name }) => !["tenant_id", "page_size", "page_token", "order", "include_reads"].includes(name),
);
const LISTS = FIELDS.filter(({ fieldKind }) => fieldKind === "list");

let service: RpcService;
let client: AuditClient;
let key: string;
const written: Written[] = [];

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
	client = createAuditClient({ url: service.httpUrl, key });
	for (const seed of [1, 2, 3, 4, 5, 6]) {
		written.push(...(await write(eventsOf(seed), "acme")));
		// Another tenant's events, the same but for the tenant, are never found.
		await write(eventsOf(seed), "globex");
	}
	// Or the bounds on it would not divide anything.
	expect(new Set(written.map(({ recordedAt }) => recordedAt)).size).toBeGreaterThan(3);
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

const HOUR = 3_600_000_000n;
const NOW = BigInt(Date.now()) * 1000n;
/** Ids that were used at several times; the second kind names a time at which it was not used. */
const USED_OFTEN = [
	randomUUID(),
	randomUUID(),
	"019a3b2c-1d2e-7f40-8a5b-6c7d8e9f0a1b",
	"019a3b2c-1d2e-8f40-8a5b-6c7d8e9f0a1b",
];

type EventInit = MessageInitShape<typeof EventSchema>;

function eventsOf(seed: number): EventInit[] {
	const text = fc.constantFrom(...TEXTS);
	const maybe = fc.constantFrom("", ...TEXTS);
	const name = fc.constantFrom("", "", ...TEXTS, "axb\n100", "東京都 Straße");
	const resource = fc.record({ id: text, type: fc.constantFrom("", "file", "folder", 'q"t'), displayName: name });
	// Ahead of the service's clock, now, and in months that are weeks and years away.
	const hours = fc.constantFrom(-23n, 0n, 0n, 24n * 30n, 24n * 60n, 24n * 400n);
	const events = fc.record({
		occurredAt: fc.tuple(hours, fc.bigInt(0n, 20n)).map(([ago, micros]) => NOW - ago * HOUR - micros),
		action: fc.constantFrom(...ACTIONS),
		actor: fc.record({
			id: text,
			displayName: name,
			email: fc.constantFrom(...EMAILS),
			type: fc.constantFrom(0, 1, 3, 77),
		}),
		onBehalfOf: fc.array(fc.record({ id: text, displayName: name, email: fc.constantFrom(...EMAILS) }), {
			maxLength: 1,
		}),
		source: fc.constantFrom("", "api", "sl%k", "slack"),
		category: fc.constantFrom(0, 1, 2, 4711),
		severity: fc.constantFrom(0, 2, 3, 99),
		outcome: fc.constantFrom(0, 1, 3, -5),
		primaryResource: fc.option(resource, { nil: undefined }),
		relatedResources: fc.array(resource, { maxLength: 3 }),
		context: fc.option(fc.record({ requestId: maybe, traceId: maybe, sessionId: maybe }), { nil: undefined }),
		description: fc.constantFrom("", '"related_resources":', '"on_behalf_of":', "É\nxenon", "log of 東"),
		id: fc.option(fc.constantFrom(...USED_OFTEN), { nil: undefined, freq: 6 }),
	});
	return fc.sample(events, { seed, numRuns: 50 }).map(({ occurredAt, id, context, primaryResource, ...event }, i) => {
		// The same id at the same time would be the same event.
		const at = id === undefined ? occurredAt : occurredAt - BigInt(seed * 100 + i) * 100n;
		return {
			...event,
			occurredAt: timestampOf(at as Micros),
			...(id !== undefined && { id }),
			...(context && { context }),
			...(primaryResource && { primaryResource }),
		} as EventInit;
	});
}

async function write(events: EventInit[], tenantId: string): Promise<Written[]> {
	const inputs = events.map((init) => create(EventSchema, { ...init, tenantId } as EventInit));
	const { results } = await client.batchWrite({ events: inputs });
	return results.map(({ result }, i) => {
		if (result.case !== "written") throw new Error(JSON.stringify(result.value));
		const { eventId, occurredAt, recordedAt } = result.value;
		const [occurred, recorded] = [occurredAt, recordedAt].map((time) => time && microsOf(time));
		return { event: inputs[i] as Event, id: eventId, occurredAt: occurred ?? 0n, recordedAt: recorded ?? 0n };
	});
}

interface Search {
	readonly given: Given;
	readonly newestFirst: boolean;
	readonly pageSize: number;
}

/** The keys of all that is found, page by page; the service's own events are left out, where they may be there. */
type Door = (search: Search) => Promise<string[]>;

/** The first event of the tenant; who searched here is there only where it is asked for. */
const isOwn = (action: string, { include_reads }: Given) =>
	action === "audit.log.created" || (include_reads === true && action.startsWith("audit.read"));

const rpc: Door = async ({ given, newestFirst, pageSize }) => {
	const found: string[] = [];
	const order = newestFirst ? Order.NEWEST_FIRST : Order.OLDEST_FIRST;
	for (let pageToken = ""; ; ) {
		const page = await client.query(requestOf(given, { tenantId: "acme", order, pageSize, pageToken }));
		expect(page.events.length).toBeLessThanOrEqual(pageSize);
		for (const { action, occurredAt, id } of page.events) {
			if (!isOwn(action, given) && occurredAt) found.push(keyOf(rfc3339(microsOf(occurredAt)), id));
		}
		pageToken = page.nextPageToken;
		if (pageToken === "") return found;
	}
};

type RestEvent = { action: string; occurred_at: string; id: string };
const keysOf = (events: RestEvent[], given: Given) =>
	events.filter(({ action }) => !isOwn(action, given)).map((event) => keyOf(event.occurred_at, event.id));

async function get(params: [string, string][]) {
	const query = new URLSearchParams([["tenant_id", "acme"], ...params]);
	const response = await fetch(`${service.httpUrl}/v1/audit/events?${query}`, {
		headers: { authorization: `Bearer ${key}` },
	});
	return (await response.json()) as {
		events: RestEvent[];
		next_page_token: string;
		error?: { code: string; reason: string; violations: { field: string }[] };
	};
}

const rest: Door = async ({ given, newestFirst, pageSize }) => {
	const found: string[] = [];
	const order = newestFirst ? "ORDER_NEWEST_FIRST" : "ORDER_OLDEST_FIRST";
	const params: [string, string][] = [...paramsOf(given), ["order", order], ["page_size", String(pageSize)]];
	for (let token = ""; ; ) {
		const page = await get([...params, ["page_token", token]]);
		expect(page.error).toBeUndefined();
		found.push(...keysOf(page.events, given));
		token = page.next_page_token;
		if (token === "") return found;
	}
};

const query = (...args: string[]) =>
	runCli(["query", "--tenant", "acme", "--output", "ndjson", ...args], { AUDIT_URL: service.httpUrl, AUDIT_KEY: key });

const cli: Door = async ({ given, newestFirst }) => {
	const order = newestFirst ? "newest" : "oldest";
	const { exitCode, stdout, stderr } = await query("--order", order, "--limit", "100000", ...optionsOf(given));
	expect([exitCode, stderr]).toEqual([0, ""]);
	const lines = stdout.split("\n").filter(Boolean);
	return keysOf(
		lines.map((line) => JSON.parse(line) as RestEvent),
		given,
	);
};

async function check(door: Door, search: Search): Promise<string[]> {
	const found = await door(search);
	expect(found).toEqual(expected(written, search.given, search.newestFirst));
	return found;
}

function samples(name: string, numRuns: number): Value[] {
	const meaning = MEANINGS[name];
	// A field added to the contract has to be added to the oracle.
	if (!meaning) throw new Error(`nothing says what ${name} means`);
	return fc.sample(meaning.values(written), { seed: 42, numRuns });
}

describe("by one filter exactly what it means is found, in both orders, whatever the page", () => {
	test.each(FIELDS.map(({ name }) => name))("%s", async (name) => {
		const sizes: number[] = [];
		for (const [i, value] of samples(name, 12).entries()) {
			const search = { given: { [name]: value }, newestFirst: i % 2 === 0, pageSize: 23 };
			sizes.push((await check(rpc, search)).length);
			await check(rest, { ...search, newestFirst: i % 2 === 1 });
		}
		expect(sizes.some((size) => size > 1 && size < written.length)).toBe(true);
		const onCli = samples(name, 12).filter((value) => hasNamesOnly({ [name]: value }));
		for (const [i, value] of onCli.slice(0, 2).entries()) {
			await check(cli, { given: { [name]: value }, newestFirst: i === 0, pageSize: 0 });
		}
		expect(onCli.length).toBeGreaterThan(0);
	});
});

describe("by any filters together exactly what all of them mean is found", () => {
	const searches = () =>
		fc.record({
			given: anyFilters(written),
			newestFirst: fc.boolean(),
			pageSize: fc.constantFrom(17, 40, 1000),
		});

	test.each<[string, Door, number]>([
		["RPC", rpc, 150],
		["REST", rest, 60],
	])(
		"%s",
		async (_name, door, numRuns) => {
			let hits = 0;
			const property = fc.asyncProperty(searches(), async (search) => {
				if ((await check(door, search)).length > 0) hits += 1;
			});
			await fc.assert(property, { numRuns });
			expect(hits).toBeGreaterThan(numRuns / 10);
		},
		60_000,
	);

	test("the command line", async () => {
		const named = searches().filter(({ given }) => hasNamesOnly(given));
		await fc.assert(
			fc.asyncProperty(named, (search) => check(cli, search).then(() => {})),
			{ numRuns: 6 },
		);
	}, 60_000);
});

async function refusal(given: Given, pageToken = "") {
	const request = requestOf(given, { tenantId: "acme", pageToken });
	const error: unknown = await client.query(request).catch((caught: unknown) => caught);
	if (!(error instanceof ConnectError)) throw new Error("it was not refused", { cause: error });
	const { reason, violations } = toAuditError(error);
	return { code: Code[error.code], reason, fields: violations.map(({ field }) => field) };
}

describe("a page token", () => {
	const refused = { code: "InvalidArgument", reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] };

	test.each(FIELDS.map(({ name }) => name))("is bound to %s", async (name) => {
		const values = samples(name, 100);
		const value = values.find((candidate) => expected(written, { [name]: candidate }, true).length > 1) as Value;
		const asSet = (values: Value) =>
			(Array.isArray(values) ? [...new Set(values.map(String))].sort() : [values]).join();
		const other = values.find((candidate) => asSet(candidate) !== asSet(value)) as Value;
		const given = { [name]: value };
		const next = async (filters: Given, pageToken = "") =>
			client.query(requestOf(filters, { tenantId: "acme", pageSize: 1, pageToken }));
		const { nextPageToken: token } = await next(given);
		expect(token).not.toBe("");
		expect((await next(given, token)).events).toHaveLength(1);
		expect(await refusal({ [name]: other }, token)).toEqual(refused);
		expect(await refusal({}, token)).toEqual(refused);
		expect((await get([["page_token", token]])).error).toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
		expect(await refusal(given, (await next({})).nextPageToken)).toEqual(refused);
	});
});

describe("what cannot be searched for is refused by name", () => {
	test.each(LISTS.map((field) => [field.name, field] as const))("%s: 100 values, not 101", async (name, field) => {
		const value = (i: number) => (field.enum ? 100 + i : name === "ids" ? randomUUID() : `value.${i}`);
		const values = Array.from({ length: 101 }, (_, i) => value(i));
		const hundred = { [name]: values.slice(1) as Value };
		const more = { [name]: values as Value };
		await check(rpc, { given: hundred, newestFirst: true, pageSize: 50 });
		await check(rest, { given: hundred, newestFirst: true, pageSize: 50 });
		const refused = { code: "InvalidArgument", reason: "INVALID_QUERY", fields: [name] };
		expect(await refusal(more)).toEqual(refused);
		expect((await get(paramsOf(more))).error).toMatchObject({ violations: [{ field: name }] });
	});

	const ranges = FIELDS.map(({ name }) => name).filter((name) => name.endsWith("_before"));
	test.each(ranges)("%s: nothing earlier than where it begins", async (before) => {
		const after = before.replace("_before", "_after");
		const given = { [after]: NOW, [before]: NOW - 1n };
		const refused = { code: "InvalidArgument", reason: "INVALID_QUERY", fields: [before] };
		expect(await refusal(given)).toEqual(refused);
		expect((await get(paramsOf(given))).error).toMatchObject({ violations: [{ field: before }] });
		const { exitCode, stderr } = await query(...optionsOf(given));
		expect([exitCode, stderr]).toEqual([1, expect.stringContaining(before)]);
		await check(rpc, { given: { [after]: NOW, [before]: NOW }, newestFirst: true, pageSize: 50 });
	});

	test("ids that are no UUIDs", async () => {
		const refused = { code: "InvalidArgument", reason: "INVALID_QUERY", fields: ["ids[1]"] };
		expect(await refusal({ ids: [randomUUID(), "{019a3b2c1d2e7f408a5b6c7d8e9f0a1b}"] })).toEqual(refused);
		const { exitCode, stderr } = await query("--id", "1");
		expect([exitCode, stderr]).toEqual([1, expect.stringContaining("ids[0]")]);
	});
});

test("times at the ends of the calendar are no filter", async () => {
	const first = { seconds: -62_135_596_800n, nanos: 1 };
	const last = { seconds: 253_402_300_799n, nanos: 999_999_999 };
	const bounds = { occurredAfter: first, recordedAfter: first, occurredBefore: last, recordedBefore: last };
	const { events } = await client.query({ tenantId: "acme", pageSize: 1000, ...bounds });
	expect(events).toHaveLength(written.length + 1);
});

describe("on the command line", () => {
	test("24h is a day ago; what is printed to go on is good for the same command later", async () => {
		const dayOld = (event: Written) => event.occurredAt >= NOW - 24n * HOUR;
		// The tenant's first event, the service's own, is of today too.
		const wanted = written.filter(dayOld).length + 1;
		const command = ["--since", "24h", "--recorded-since", "7d", "--limit", String(wanted - 1)];
		const first = await query(...command);
		const [, more = ""] = /^there are more: (.+)\n$/.exec(first.stderr) ?? [];
		expect(more).toMatch(/--page-token \S+ --since \S+Z --recorded-since \S+Z/);
		const second = await query(...command, ...more.split(" "));
		expect(second.stderr).toBe("");
		const lines = (first.stdout + second.stdout).trim().split("\n");
		expect(new Set(lines).size).toBe(wanted);
		expect(lines).toHaveLength(wanted);
	});

	test.each(["--request-id", "--actor-email", "--since"])(
		"%s without a value finds nothing, not everything",
		async (option) => {
			const { exitCode, stdout } = await query(`${option}=`);
			expect(exitCode).not.toBe(0);
			expect(stdout).toBe("");
		},
	);
});
