import fc from "fast-check";
import { Client } from "pg";
import { Temporal } from "temporal-polyfill";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Micros } from "../../src/event/event.ts";
import { rfc3339 } from "../../src/event/time.ts";
import { BucketSize, BucketSizeSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { bucketsOf } from "../../src/query/buckets.ts";
import { createTestDatabase, type TestDatabase } from "../support/services.ts";

/** Buckets in time zones, against PostgreSQL: it has a calendar of its own, and is asked what the clocks there show. */

let database: TestDatabase;
let postgres: Client;
beforeAll(async () => {
	database = await createTestDatabase();
	postgres = new Client({ connectionString: database.url });
	await postgres.connect();
});
afterAll(async () => {
	await postgres.end();
	await database.drop();
});

/** What clocks do: nothing; skip and repeat an hour, or midnight, or half an hour; quarters of hours; a day left out. */
const ZONES = [
	"UTC",
	"+05:30",
	"Europe/Berlin",
	"America/New_York",
	"America/Sao_Paulo",
	"America/Havana",
	"America/Santiago",
	"Asia/Tehran",
	"Asia/Kathmandu",
	"Asia/Kolkata",
	"Australia/Lord_Howe",
	"Pacific/Chatham",
	"Pacific/Apia",
];

interface Size {
	readonly minutes: number;
	/** Of a `time` there and its `off`set from UTC: the same for all times in one bucket, another in the next. */
	readonly label: string;
}
const byClock = (minutes: number) => ({
	minutes,
	label: `date_bin('${minutes} minutes', time, '2000-01-01') || ' ' || off`,
});
const SIZES: Partial<Record<BucketSize, Size>> = {
	[BucketSize.MINUTE]: byClock(1),
	[BucketSize.FIVE_MINUTES]: byClock(5),
	[BucketSize.FIFTEEN_MINUTES]: byClock(15),
	[BucketSize.HOUR]: byClock(60),
	[BucketSize.SIX_HOURS]: { minutes: 360, label: "date_bin('6 hours', time, '2000-01-01')::text" },
	[BucketSize.DAY]: { minutes: 1_440, label: "to_char(time, 'YYYY-MM-DD')" },
	[BucketSize.WEEK]: { minutes: 10_080, label: "to_char(time, 'IYYY-IW')" },
	[BucketSize.MONTH]: { minutes: 43_200, label: "to_char(time, 'YYYY-MM')" },
	[BucketSize.YEAR]: { minutes: 525_600, label: "to_char(time, 'YYYY')" },
};
const sizes = Object.keys(SIZES).map(Number) as BucketSize[];
const nameOf = (size: BucketSize) => BucketSizeSchema.value[size]?.name ?? "";

/** In which bucket of its size each moment is. */
async function labelsOf(moments: readonly bigint[], size: BucketSize, zone: string): Promise<string[]> {
	// In PostgreSQL the sign of an offset is that of POSIX.
	const there = zone === "+05:30" ? "Asia/Kolkata" : zone;
	const { rows } = await postgres.query<{ label: string }>(
		`SELECT ${SIZES[size]?.label} AS label FROM (
			SELECT n, at AT TIME ZONE $2 AS time, (at AT TIME ZONE $2) - (at AT TIME ZONE 'UTC') AS off
			FROM unnest($1::timestamptz[]) WITH ORDINALITY AS moments (at, n)) AS local ORDER BY n`,
		[moments.map((at) => rfc3339(at as Micros)), there],
	);
	return rows.map(({ label }) => label);
}

const [FIRST, LAST] = [Date.UTC(2011, 0, 1), Date.UTC(2026, 9, 1)];

/** Ranges that begin anywhere, or shortly before clocks are changed. */
function rangesIn(zone: string, size: BucketSize): fc.Arbitrary<{ from: Micros; to: Micros }> {
	const long = (SIZES[size]?.minutes ?? 0) * 60_000;
	const turns: number[] = [];
	let turn = Temporal.Instant.fromEpochMilliseconds(FIRST).toZonedDateTimeISO(zone).getTimeZoneTransition("next");
	for (; turn && turn.epochMilliseconds < LAST; turn = turn.getTimeZoneTransition("next")) {
		turns.push(turn.epochMilliseconds);
	}
	const anywhere = fc.integer({ min: FIRST, max: LAST });
	const near = fc.tuple(fc.constantFrom(...turns, FIRST), fc.integer({ min: 0, max: long * 3 }));
	const starts = fc.oneof(
		anywhere,
		near.map(([at, before]) => at - before),
	);
	const micros = fc.tuple(starts, fc.integer({ min: 0, max: 999 })).map(([ms, us]) => BigInt(ms) * 1000n + BigInt(us));
	const lengths = fc.integer({ min: 1, max: Math.min(long * 20, 3 * 365 * 86_400_000) });
	return fc
		.tuple(micros, lengths)
		.map(([from, ms]) => ({ from: from as Micros, to: (from + BigInt(ms) * 1000n) as Micros }));
}

describe.each(ZONES)("in %s", (zone) => {
	test.each(sizes.map((size) => [nameOf(size), size] as const))("%s", async (_name, size) => {
		await fc.assert(
			fc.asyncProperty(
				rangesIn(zone, size),
				fc.array(fc.double({ min: 0, max: 0.999, noNaN: true })),
				async (range, some) => {
					const { bounds = [] } = bucketsOf(range, size, zone) ?? {};
					// The range is in them, and none is of nothing.
					expect(bounds[0]).toBeLessThanOrEqual(range.from);
					expect(bounds[1]).toBeGreaterThan(range.from);
					expect(bounds.at(-1)).toBeGreaterThanOrEqual(range.to);
					expect(bounds.at(-2)).toBeLessThan(range.to);
					const buckets = bounds.slice(1).map((to, i) => ({ from: bounds[i] ?? 0n, to: to as bigint }));
					const inside = buckets.map(({ from, to }) => [
						from,
						...some.map((part) => from + BigInt(Math.floor(Number(to - from) * part))),
						to - 1n,
					]);
					const labels = await labelsOf(inside.flat(), size, zone);
					const byBucket = inside.map((moments) => new Set(labels.splice(0, moments.length)));
					expect(byBucket.map(({ size: different }) => different)).toEqual(buckets.map(() => 1));
					const [each] = [byBucket.map((ofOne) => [...ofOne][0])];
					expect(new Set(each).size).toBe(buckets.length);
				},
			),
			{ numRuns: 25 },
		);
	});
});

describe("a day", () => {
	const hours = (day: string, zone: string) => {
		const from = BigInt(Temporal.PlainDate.from(day).toZonedDateTime(zone).epochMilliseconds) * 1000n;
		const range = { from: from as Micros, to: (from + 1n) as Micros };
		const { bounds = [] } = bucketsOf(range, BucketSize.DAY, zone) ?? {};
		return Number((bounds[1] ?? 0n) - (bounds[0] ?? 0n)) / 3_600_000_000;
	};
	test.each([
		["2026-03-29", "Europe/Berlin", 23],
		["2026-10-25", "Europe/Berlin", 25],
		["2026-10-25", "Asia/Kolkata", 24],
		["2026-10-04", "Australia/Lord_Howe", 23.5],
		["2018-11-04", "America/Sao_Paulo", 23],
		["2019-11-03", "America/Havana", 25],
	])("%s in %s has %d hours", (day, zone, long) => expect(hours(day, zone)).toBe(long));
});

describe("how many", () => {
	const days = (count: number) => ({ from: 0n as Micros, to: (BigInt(count) * 86_400_000_000n) as Micros });
	const countOf = (range: { from: Micros; to: Micros }, size: BucketSize) => {
		const buckets = bucketsOf(range, size, "UTC");
		return buckets && [buckets.size, buckets.bounds.length - 1];
	};

	test("400 of a size that was asked for, and not 401: then it is said what would do", () => {
		expect(countOf(days(400), BucketSize.DAY)).toEqual([BucketSize.DAY, 400]);
		expect(() => countOf(days(401), BucketSize.DAY)).toThrow(
			"bucket_size: BUCKET_SIZE_DAY gives more than 400 buckets in this time range; BUCKET_SIZE_WEEK would do",
		);
		expect(() => countOf(days(10_000), BucketSize.MINUTE)).toThrow("BUCKET_SIZE_MONTH would do");
		expect(() => countOf(days(366 * 500), BucketSize.MONTH)).toThrow("no size would do");
	});

	test("as many as 100 where the size is ours to choose, of the smallest size; of years as many as 400", () => {
		expect(countOf({ from: 0n as Micros, to: 3_600_000_000n as Micros }, BucketSize.AUTO)).toEqual([
			BucketSize.MINUTE,
			60,
		]);
		expect(countOf(days(1), BucketSize.AUTO)).toEqual([BucketSize.FIFTEEN_MINUTES, 96]);
		expect(countOf(days(100), BucketSize.UNSPECIFIED)).toEqual([BucketSize.DAY, 100]);
		expect(countOf(days(101), BucketSize.AUTO)).toEqual([BucketSize.WEEK, 15]);
		expect(countOf(days(366 * 300), BucketSize.AUTO)?.[0]).toBe(BucketSize.YEAR);
		expect(countOf(days(366 * 500), BucketSize.AUTO)).toBeUndefined();
	});
});
