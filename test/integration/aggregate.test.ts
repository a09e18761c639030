import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import type { EventInput, Micros, TenantId } from "../../src/event/event.ts";
import { microsOf, rfc3339, timestampOf } from "../../src/event/time.ts";
import {
	AggregateField,
	AggregateRequestSchema,
	type AggregateResponse,
	BucketSize,
	QueryRequestSchema,
} from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { Counts } from "../../src/query/aggregate.ts";
import { COUNT_LIMITS, type CountLimits } from "../../src/query/count-pieces.ts";
import { Query } from "../../src/query/query.ts";
import { checkTrail } from "../support/check-trail.ts";
import { bucketsIn, countsOf, FIELDS, fieldsIn } from "../support/count-oracle.ts";
import {
	ACTIONS,
	anyFilters,
	EMAILS,
	expected,
	keyOf,
	requestOf,
	TEXTS,
	type Written,
} from "../support/filter-oracle.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

/** Counts against what plain JavaScript counts of the same events. */

let database: TestDatabase;
let path: WritePath;
/** All of one tenant's events, the service's own too. */
let written: Written[];
const acme = "acme" as TenantId;
/** Time is never over: what is wanted is everything. */
const UNHURRIED: CountLimits = { ...COUNT_LIMITS, millis: 600_000, statementMillis: 600_000 };

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	for (const seed of [1, 2, 3, 4]) {
		for (const tenantId of ["acme", "globex"]) await write(eventsOf(seed), tenantId);
	}
	written = await allOf(acme);
	expect(written).toHaveLength(201);
	return async () => {
		await path.close();
		await database.drop();
	};
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

type EventInit = MessageInitShape<typeof EventSchema>;
type Request = MessageInitShape<typeof AggregateRequestSchema>;
const HOUR = 3_600_000_000n;
const NOW = BigInt(Date.now()) * 1000n;
const at = (micros: bigint) => timestampOf(micros as Micros);

function eventsOf(seed: number): EventInit[] {
	const text = fc.constantFrom(...TEXTS);
	const resource = fc.record({ id: text, type: fc.constantFrom("", "file", "folder", 'q"t') });
	const hours = fc.constantFrom(-23n, 0n, 0n, 3n, 24n * 30n, 24n * 61n, 24n * 400n);
	const events = fc.record({
		occurredAt: fc.tuple(hours, fc.bigInt(0n, HOUR * 30n)).map(([ago, micros]) => NOW - ago * HOUR - micros),
		action: fc.constantFrom(...ACTIONS),
		actor: fc.record({ id: text, email: fc.constantFrom(...EMAILS), type: fc.constantFrom(0, 1, 3, 77) }),
		source: fc.constantFrom("", "api", "sl%k", "slack"),
		category: fc.constantFrom(0, 1, 2, 4711),
		severity: fc.constantFrom(0, 2, 3, 99),
		outcome: fc.constantFrom(0, 1, 3, -5),
		primaryResource: fc.option(resource, { nil: undefined }),
		relatedResources: fc.array(resource, { maxLength: 2 }),
	});
	return fc.sample(events, { seed, numRuns: 50 }).map(({ occurredAt, primaryResource, ...event }) => {
		return { ...event, occurredAt: at(occurredAt), ...(primaryResource && { primaryResource }) } as EventInit;
	});
}

async function write(events: EventInit[], tenantId: string): Promise<void> {
	const inputs = events.map((init) => anEvent({ ...init, tenantId } as EventInit));
	for (const result of await path.ingest.accept(inputs as EventInput[], aWriter(), { atomic: true })) {
		if (!result.ok) throw result.error;
	}
}

async function allOf(tenantId: TenantId): Promise<Written[]> {
	const query = new Query({ db: path.db, pageTokenKey: deriveKeys(testSecret()).pageTokens });
	const request = create(QueryRequestSchema, { pageSize: 1_000 });
	const { events } = await query.search(request, tenantId, NOTHING_MASKED);
	return events.map((event) => {
		const [occurredAt, recordedAt] = [event.occurredAt, event.recordedAt].map((time) => (time ? microsOf(time) : 0n));
		return { event, id: event.id, occurredAt: occurredAt ?? 0n, recordedAt: recordedAt ?? 0n };
	});
}

async function countAll(request: Request, limits = UNHURRIED, tenant = acme): Promise<AggregateResponse> {
	const counts = new Counts({ db: path.db, limits });
	const asked = create(AggregateRequestSchema, request);
	return (await counts.aggregate(asked, tenant, NOTHING_MASKED)).answer;
}

/** Every number of an answer is what the events say that were found. */
function check(answer: AggregateResponse, found: readonly Written[], fields: readonly AggregateField[], top: number) {
	const events: Event[] = found.map(({ event }) => event);
	expect(answer.total).toBe(BigInt(found.length));
	expect(fieldsIn(answer)).toEqual(fields.map((field) => countsOf(field, events, top)));
	if (answer.bucketSize === BucketSize.NONE) return;
	const times = found.map(({ occurredAt }) => occurredAt);
	const buckets = bucketsIn(answer, times);
	expect(buckets.map(({ said }) => said)).toEqual(buckets.map(({ are }) => are));
	expect(buckets.reduce((sum, { said }) => sum + said, 0n)).toBe(answer.total);
	answer.buckets.slice(1).forEach(({ start }, i) => expect(start).toEqual(answer.buckets[i]?.end));
}

describe("whatever is searched for and counted by, the counts are exact", () => {
	const shapes = fc.record({
		fields: fc.shuffledSubarray(FIELDS, { minLength: 1 }),
		top: fc.integer({ min: 1, max: 6 }),
		bucketSize: fc.constantFrom(BucketSize.AUTO, BucketSize.WEEK, BucketSize.MONTH, BucketSize.YEAR, BucketSize.NONE),
		timeZone: fc.constantFrom("", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"),
	});

	test.each([
		["with all values in memory", UNHURRIED.values],
		["with fields of more values than are kept", 12],
		["with no field kept", 0],
	])("%s", async (_how, values) => {
		const property = fc.asyncProperty(anyFilters(written), shapes, async (given, shape) => {
			const keys = new Set(expected(written, given, true));
			const { timeZone, ...rest } = shape;
			// Bounds ages apart leave room for no size but one of ours.
			const isFar = Object.keys(given).some((name) => name.startsWith("occurred"));
			const bucketSize = isFar ? BucketSize.AUTO : rest.bucketSize;
			const found = written.filter(({ event, id }) =>
				keys.has(keyOf(rfc3339(microsOf(event.occurredAt ?? at(0n))), id)),
			);
			const request = { ...rest, bucketSize, timeZone, query: requestOf(given) };
			const answer = await countAll(request, { ...UNHURRIED, values });
			expect([answer.complete, answer.countedFrom]).toEqual([true, undefined]);
			check(answer, found, shape.fields, shape.top);
		});
		await fc.assert(property, { numRuns: 100 });
	});
});

describe("buckets", () => {
	test("are there without events too, from the one bound to the other, cut there", async () => {
		const [from, to] = [NOW - 40n * 24n * HOUR - 7n, NOW - 35n * 24n * HOUR + 5n];
		const query = { occurredAfter: at(from), occurredBefore: at(to), actions: ["absent"] };
		const { buckets } = await countAll({ query, bucketSize: BucketSize.DAY });
		expect(buckets.length).toBeGreaterThanOrEqual(6);
		expect([buckets[0]?.start, buckets.at(-1)?.end]).toEqual([at(from), at(to)]);
		expect(buckets.map(({ count }) => count)).toEqual(buckets.map(() => 0n));
	});

	test("go from the tenant's first event to its last, whatever is searched for, where no bounds are given", async () => {
		const times = written.map(({ occurredAt }) => occurredAt).sort((a, b) => (a < b ? -1 : 1));
		const { buckets, bucketSize } = await countAll({ query: { actions: ["absent"] } });
		expect(bucketSize).toBe(BucketSize.WEEK);
		const [start, end] = [buckets[0]?.start, buckets.at(-1)?.end].map((time) => time && microsOf(time));
		const week = 7n * 24n * HOUR;
		expect((times[0] ?? 0n) - (start ?? 0n)).toBeLessThan(week);
		expect((times[0] ?? 0n) - (start ?? 0n)).toBeGreaterThanOrEqual(0n);
		expect((end ?? 0n) - (times.at(-1) ?? 0n)).toBeLessThanOrEqual(week);
		expect((end ?? 0n) - (times.at(-1) ?? 0n)).toBeGreaterThan(0n);
	});

	test("are where the events are if bounds are millennia apart", async () => {
		const query = { occurredAfter: { seconds: -62_135_596_800n, nanos: 0 }, occurredBefore: at(NOW + 900n * HOUR) };
		const { buckets, bucketSize, total } = await countAll({ query });
		expect([bucketSize, total]).toEqual([BucketSize.WEEK, 201n]);
		expect(buckets.length).toBeLessThan(70);
	});
});

describe("when time is over", () => {
	const DAY = 24n * HOUR;
	const month = (ago: number) => new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() - ago, 1));
	const partition = (ago: number) => `audit.events_${month(ago).toISOString().slice(0, 7).replace("-", "_")}`;
	const begin = (ago: number) => BigInt(month(ago).getTime()) * 1000n;
	let late: Written[];

	beforeAll(async () => {
		const days = [5, 4, 3, 2, 1].flatMap((ago) => [1n, 5n, 9n].map((day) => begin(ago) + day * DAY));
		await write(
			days.map((time, i) => ({ occurredAt: at(time), action: `a.${i % 4}` })),
			"late",
		);
		late = await allOf("late" as TenantId);
	});

	/** Holds a month's partition, as somebody might who makes an index: who reads it waits. */
	function holding<T>(ago: number, run: (release: () => Promise<unknown>) => Promise<T>): Promise<T> {
		return asAdmin(async (admin) => {
			await admin.query(`BEGIN; LOCK TABLE ${partition(ago)} IN ACCESS EXCLUSIVE MODE`);
			return run(() => admin.query("COMMIT"));
		});
	}

	test.each([
		["all values kept", COUNT_LIMITS.values],
		["no values kept", 0],
	])("what was counted is exact, says since when, and what was not has no bucket: %s", async (_how, values) => {
		const limits = { millis: 900, statementMillis: 50, values };
		const fields = [AggregateField.ACTION, AggregateField.ACTOR_ID];
		const answer = await holding(3, () => countAll({ fields, bucketSize: BucketSize.DAY }, limits, "late" as TenantId));
		expect(answer.complete).toBe(false);
		const since = answer.countedFrom ? microsOf(answer.countedFrom) : 0n;
		expect(since).toBeGreaterThanOrEqual(begin(2));
		const counted = late.filter(({ occurredAt }) => occurredAt >= since);
		check(answer, counted, fields, 10);
		expect(answer.buckets[0]?.start ?? answer.countedFrom).toEqual(answer.countedFrom);
	});

	test("all of it is as it was at one moment, whatever is written meanwhile", async () => {
		const [fields, top] = [[AggregateField.ACTION], 100];
		const limits = { ...UNHURRIED, values: 0 };
		const before = late;
		const answer = await holding(3, async (release) => {
			const counting = countAll({ fields, top }, limits, "late" as TenantId);
			await waitFor(() => isWaitedFor(3));
			await write([{ occurredAt: at(begin(1) + DAY * 3n), action: "written.meanwhile" }], "late");
			await release();
			return counting;
		});
		check(answer, before, fields, top);
		late = await allOf("late" as TenantId);
		expect(late).toHaveLength(before.length + 1);
	});

	test("what takes a statement too long is counted in parts", async () => {
		const answer = await holding(3, async (release) => {
			const counting = countAll({}, { ...UNHURRIED, statementMillis: 50 }, "late" as TenantId);
			await asAdmin((admin) => {
				// A second statement waits: the first one was given up.
				const waiting = new Set<number>();
				return waitFor(async () => {
					const { rows } = await admin.query<{ began: Date }>(
						"SELECT query_start AS began FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
					);
					for (const { began } of rows) waiting.add(began.getTime());
					return waiting.size > 1;
				});
			});
			await release();
			return counting;
		});
		expect(answer.complete).toBe(true);
		check(answer, late, [1, 2, 3, 4, 5, 6, 9], 10);
	});

	test("a field whose values could not be counted in time has none, and says so", async () => {
		const fields = [AggregateField.ACTION];
		const limits = { millis: 3_000, statementMillis: 600_000, values: 0 };
		const answer = await holding(3, async (release) => {
			const counting = countAll({ fields, bucketSize: BucketSize.NONE }, limits, "late" as TenantId);
			await waitFor(() => isWaitedFor(3));
			// What a piece has read is free again: only the statement for the field meets it.
			return holding(2, async () => {
				await release();
				return counting;
			});
		});
		expect(answer.total).toBeGreaterThan(0n);
		const { total } = answer;
		const nothing = { values: [], other: total, otherValues: 0n, absent: 0n, complete: false };
		expect(answer.fields).toMatchObject([{ field: AggregateField.ACTION, ...nothing }]);
	});

	test("a month that has nothing of the kind is not gone through", async () => {
		await write([{ occurredAt: at(begin(1) + DAY * 7n), action: "only.once" }], "late");
		const query = { actions: ["only.once"] };
		const answer = await holding(3, () => countAll({ query }, COUNT_LIMITS, "late" as TenantId));
		expect([answer.complete, answer.total]).toEqual([true, 1n]);
	});

	/** Everybody may see who waits for what. */
	async function isWaitedFor(ago: number): Promise<boolean> {
		const { rowCount } = await path.db.maintainer.query(
			"SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation' AND relation = $1::regclass::oid",
			[partition(ago)],
		);
		return rowCount === 1;
	}

	async function asAdmin<T>(use: (admin: Client) => Promise<T>): Promise<T> {
		const admin = new Client({ connectionString: database.url });
		await admin.connect();
		try {
			return await use(admin);
		} finally {
			await admin.end();
		}
	}
});
