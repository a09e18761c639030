import { Temporal } from "temporal-polyfill";
import { type AuditError, invalidArgument } from "../errors.ts";
import type { Micros } from "../event/event.ts";
import { BucketSize, BucketSizeSchema } from "../gen/audit/v1/audit_service_pb.ts";
import type { Window } from "./conditions.ts";

/** Time divided without gaps: each bucket ends where the next begins, the last one at the last bound. */
export interface Buckets {
	readonly size: BucketSize;
	/** Ascending, one more than there are buckets; none where there are no buckets. */
	readonly bounds: readonly Micros[];
}

export const NO_BUCKETS: Buckets = { size: BucketSize.NONE, bounds: [] };

/** Of any size, and where the size is ours to choose: as many as can be told apart on a screen. */
const MOST = { asked: 400, chosen: 100 } as const;

/** @returns its usual spelling; undefined if there is no such time zone */
export function timeZoneOf(name: string): string | undefined {
	try {
		return new Temporal.ZonedDateTime(0n, name).timeZoneId;
	} catch (error) {
		if (error instanceof RangeError) return undefined;
		throw error;
	}
}

/**
 * The buckets from the one that holds the range's first moment to the one that holds its last, whole ones.
 *
 * @param timeZone as `timeZoneOf` gave it
 * @returns undefined if the size is ours to choose and not even years are few enough
 * @throws AuditError invalid_argument if the size that was asked for gives too many, naming one that does not
 */
export function bucketsOf(range: Window, size: BucketSize, timeZone: string): Buckets | undefined {
	if (size === BucketSize.NONE) return NO_BUCKETS;
	const shape = SHAPES.find((candidate) => candidate.size === size);
	if (shape) return inShape(shape, range, timeZone, MOST.asked) ?? refuse(tooMany(size, range, timeZone));
	return fitting(range, timeZone, MOST.chosen) ?? fitting(range, timeZone, MOST.asked);
}

/** The smallest size that gives no more buckets than that. */
function fitting(range: Window, timeZone: string, most: number): Buckets | undefined {
	for (const shape of SHAPES) {
		const buckets = inShape(shape, range, timeZone, most);
		if (buckets) return buckets;
	}
	return undefined;
}

function tooMany(size: BucketSize, range: Window, timeZone: string): AuditError {
	const enough = fitting(range, timeZone, MOST.asked);
	const advice = enough ? `${nameOf(enough.size)} would do` : "no size would do: give a shorter time range";
	const message = `${nameOf(size)} gives more than ${MOST.asked} buckets in this time range; ${advice}`;
	return invalidArgument([{ field: "bucket_size", message }], "INVALID_QUERY");
}

function refuse(error: AuditError): never {
	throw error;
}

function nameOf(size: BucketSize): string {
	return BucketSizeSchema.value[size]?.name ?? String(size);
}

/** A size of buckets, and where they begin: at the one that holds a moment, and from there on without end. */
interface Shape {
	readonly size: BucketSize;
	readonly minutes: number;
	readonly starts: (moment: Temporal.ZonedDateTime, minutes: number) => Iterable<Temporal.Instant>;
}

const DAY = 1_440;

/** The smallest first. */
const SHAPES: readonly Shape[] = [
	{ size: BucketSize.MINUTE, minutes: 1, starts: byClock },
	{ size: BucketSize.FIVE_MINUTES, minutes: 5, starts: byClock },
	{ size: BucketSize.FIFTEEN_MINUTES, minutes: 15, starts: byClock },
	{ size: BucketSize.HOUR, minutes: 60, starts: byClock },
	{ size: BucketSize.SIX_HOURS, minutes: 360, starts: byQuarter },
	{ size: BucketSize.DAY, minutes: DAY, starts: byDate((day) => day, { days: 1 }) },
	{
		size: BucketSize.WEEK,
		minutes: 7 * DAY,
		starts: byDate((day) => day.subtract({ days: day.dayOfWeek - 1 }), { weeks: 1 }),
	},
	{ size: BucketSize.MONTH, minutes: 30 * DAY, starts: byDate((day) => day.with({ day: 1 }), { months: 1 }) },
	{ size: BucketSize.YEAR, minutes: 365 * DAY, starts: byDate((day) => day.with({ month: 1, day: 1 }), { years: 1 }) },
];

function inShape({ size, minutes, starts }: Shape, range: Window, timeZone: string, most: number): Buckets | undefined {
	// Without dividing what is far too long: no bucket is twice as long as usual.
	if ((range.to - range.from) / (BigInt(minutes) * 60_000_000n) > 2 * most) return undefined;
	const bounds: Micros[] = [];
	for (const start of starts(instantOf(range.from).toZonedDateTimeISO(timeZone), minutes)) {
		const bound = (start.epochNanoseconds / 1000n) as Micros;
		// Where the calendar skips a day, that day would begin where the next one does.
		if (bound <= (bounds.at(-1) ?? bound - 1n)) continue;
		bounds.push(bound);
		if (bound >= range.to && bounds.length > 1) return { size, bounds };
		if (bounds.length > most) return undefined;
	}
	return undefined;
}

function instantOf(micros: Micros): Temporal.Instant {
	return Temporal.Instant.fromEpochNanoseconds(micros * 1000n);
}

const MINUTE_NS = 60_000_000_000n;

/**
 * Whenever the clock shows a multiple of so many minutes, at most an hour, and whenever it is changed: an hour that comes
 * twice is two.
 */
function* byClock(moment: Temporal.ZonedDateTime, minutes: number): Iterable<Temporal.Instant> {
	const long = BigInt(minutes) * MINUTE_NS;
	const since = (at: Temporal.ZonedDateTime) => modulo(at.epochNanoseconds + BigInt(at.offsetNanoseconds), long);
	// `previous` is before the moment it is asked of.
	const turned = moment.add({ nanoseconds: 1 }).getTimeZoneTransition("previous")?.epochNanoseconds;
	const floor = moment.epochNanoseconds - since(moment);
	let start = at(turned !== undefined && turned > floor ? turned : floor);
	let turn = start.getTimeZoneTransition("next");
	for (;;) {
		yield start.toInstant();
		const full = start.epochNanoseconds + long - since(start);
		const isTurned = turn !== null && turn.epochNanoseconds <= full;
		start = isTurned && turn ? turn : at(full);
		if (isTurned) turn = start.getTimeZoneTransition("next");
	}

	function at(nanoseconds: bigint): Temporal.ZonedDateTime {
		return new Temporal.ZonedDateTime(nanoseconds, moment.timeZoneId);
	}
}

function* byQuarter(moment: Temporal.ZonedDateTime): Iterable<Temporal.Instant> {
	const { timeZoneId } = moment;
	let hour = Math.floor(moment.hour / 6) * 6;
	for (let day = moment.toPlainDate(); ; day = day.add({ days: 1 }), hour = 0) {
		for (; hour < 24; hour += 6) {
			// Of a day's first moment Temporal knows where the clocks skip midnight.
			if (hour === 0) yield day.toZonedDateTime(timeZoneId).toInstant();
			else yield day.toPlainDateTime({ hour }).toZonedDateTime(timeZoneId).toInstant();
		}
	}
}

function byDate(first: (day: Temporal.PlainDate) => Temporal.PlainDate, step: Temporal.DurationLike) {
	return function* (moment: Temporal.ZonedDateTime): Iterable<Temporal.Instant> {
		for (let day = first(moment.toPlainDate()); ; day = day.add(step)) {
			yield day.toZonedDateTime(moment.timeZoneId).toInstant();
		}
	};
}

function modulo(a: bigint, b: bigint): bigint {
	return ((a % b) + b) % b;
}
