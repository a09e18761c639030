import { create } from "@bufbuild/protobuf";
import type { PoolClient } from "pg";
import type { MaskableUnit } from "../auth/principal.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { timestampOf } from "../event/time.ts";
import {
	type AggregateRequest,
	type AggregateResponse,
	AggregateResponseSchema,
	type Bucket,
	BucketSchema,
	type FieldCounts,
	FieldCountsSchema,
	ValueCountSchema,
} from "../gen/audit/v1/audit_service_pb.ts";
import { type Database, inTenantAtOnce } from "../storage/db.ts";
import { COUNTED_FIELDS, type FieldNumber } from "./aggregate-fields.ts";
import { type Aggregation, parseAggregation } from "./aggregate-request.ts";
import type { Asked } from "./asked.ts";
import { type Buckets, bucketsOf, NO_BUCKETS } from "./buckets.ts";
import type { Window } from "./conditions.ts";
import { COUNT_LIMITS, type CountLimits, countPieces, countWide, type Work } from "./count-pieces.ts";
import { extentOf, requireTenant } from "./extent.ts";
import type { Search } from "./filter.ts";
import { rethrowTooSlow } from "./search.ts";
import { shapesIn } from "./sources.ts";
import { type Counted, type Found, Tally } from "./tally.ts";
import { windowsOf } from "./windows.ts";

/**
 * Counts the events of a search, all as they were at one moment, within limits of time and memory. What time was not enough
 * for is not guessed: everything in the answer is exact, and the answer says since when. The tenant is the one access control
 * resolved, whatever the request says; what is masked for the caller is neither searched nor counted by.
 */
export class Counts {
	readonly #db: Database;
	readonly #limits: CountLimits;

	constructor({ db, limits = COUNT_LIMITS }: { readonly db: Database; readonly limits?: CountLimits }) {
		this.#db = db;
		this.#limits = limits;
	}

	/**
	 * @param at where the search is in what the caller sent: the fields of its violations begin there
	 * @throws AuditError permission_denied for filters or fields of masked units, invalid_argument with every violation,
	 * not_found, deadline_exceeded, unavailable
	 */
	async aggregate(
		request: AggregateRequest,
		tenantId: TenantId,
		masked: ReadonlySet<MaskableUnit>,
		at = "query",
	): Promise<{ readonly answer: AggregateResponse; readonly asked: Asked }> {
		const checked = parseAggregation(request, tenantId, masked, at);
		const answer = await inTenantAtOnce(this.#db, tenantId, (client) =>
			count(client, checked, this.#limits).catch(rethrowTooSlow),
		);
		return { answer, asked: checked.asked };
	}
}

async function count(client: PoolClient, asked: Aggregation, limits: CountLimits): Promise<AggregateResponse> {
	const { search, fields, top } = asked;
	const began = performance.now();
	// A server with JIT may compile each statement, which takes longer than most of them.
	await client.query("SELECT set_config('jit', 'off', true)");
	const windows = await windowsOf(client, search, undefined);
	const extent = await extentOf(client, search, windows);
	if (!extent) await requireTenant(client, search);
	const buckets = bucketsIn(asked, extent);
	const { bounds } = buckets;
	const tally = new Tally(fields, Math.max(0, bounds.length - 1), limits.values);
	const work: Work = { search, bounds, tally, limits, began };
	const countedFrom = await countPieces(client, work, await possible(client, search, clipped(windows, extent)));

	const found = new Map(fields.map((field) => [field, tally.found(field, top)]));
	const until = began + limits.millis * 1.5;
	for (const field of tally.wide) {
		if (!extent) break;
		const counted = { from: countedFrom ?? extent.from, to: extent.to };
		found.set(field, await countWide(client, work, field, { counted, top, until }));
	}
	return create(AggregateResponseSchema, {
		total: BigInt(tally.total),
		buckets: answeredBuckets(buckets, tally.buckets, countedFrom),
		bucketSize: buckets.size,
		timeZone: asked.timeZone,
		fields: fields.map((field) => answeredField(field, found.get(field), tally.total)),
		complete: countedFrom === undefined,
		...(countedFrom !== undefined && { countedFrom: timestampOf(countedFrom) }),
	});
}

/** Over the bounds that are given; those that are not are where the tenant's events begin and end. */
function bucketsIn({ search, bucketSize, timeZone }: Aggregation, extent: Window | undefined): Buckets {
	const { occurredAfter: after, occurredBefore: before } = search;
	const [from, to] = [after ?? extent?.from, before ?? extent?.to];
	if (from === undefined || to === undefined || from >= to) return NO_BUCKETS;
	const buckets =
		bucketsOf({ from, to }, bucketSize, timeZone) ?? (extent && bucketsOf(extent, bucketSize, timeZone)) ?? NO_BUCKETS;
	const bounds = buckets.bounds.map((bound) => {
		if (after !== undefined && bound < after) return after;
		return before !== undefined && bound > before ? before : bound;
	});
	return { ...buckets, bounds };
}

function clipped(windows: readonly Window[], extent: Window | undefined): Window[] {
	if (!extent) return [];
	const cut = windows.map(({ from, to }) => ({
		from: from < extent.from ? extent.from : from,
		to: to > extent.to ? extent.to : to,
	}));
	return cut.filter(({ from, to }) => from < to);
}

/** Without the months that have no event of any shape that is searched for. */
async function possible(client: PoolClient, search: Search, windows: readonly Window[]): Promise<Window[]> {
	const some: Window[] = [];
	for (const window of windows) {
		const shapes = await shapesIn(client, search, window);
		if (shapes?.length !== 0) some.push(window);
	}
	return some;
}

/** Time that was not counted has no bucket: a bucket with nothing in it says that nothing happened. */
function answeredBuckets({ bounds }: Buckets, counts: readonly number[], countedFrom: Micros | undefined): Bucket[] {
	return counts.flatMap((count, i) => {
		const [start, end] = [bounds[i], bounds[i + 1]];
		if (start === undefined || end === undefined) throw new Error("a bucket has no bounds");
		if (countedFrom !== undefined && end <= countedFrom) return [];
		const since = countedFrom !== undefined && start < countedFrom ? countedFrom : start;
		return [create(BucketSchema, { start: timestampOf(since), end: timestampOf(end), count: BigInt(count) })];
	});
}

/** @param found undefined: it could not be counted in time */
function answeredField(field: FieldNumber, found: Found | undefined, total: number): FieldCounts {
	if (!found) return create(FieldCountsSchema, { field, other: BigInt(total), complete: false });
	const { values, other, otherValues, absent } = found;
	return create(FieldCountsSchema, {
		field,
		values: values.map((counted) => answeredValue(field, counted)),
		other: BigInt(other),
		otherValues: BigInt(otherValues),
		absent: BigInt(absent),
		complete: true,
	});
}

function answeredValue(field: FieldNumber, { values, count }: Counted) {
	const { names } = COUNTED_FIELDS[field];
	const [value, resourceType] = values.toReversed();
	const name = names?.value[Number(value)]?.name;
	return create(ValueCountSchema, {
		value: name ?? value ?? "",
		resourceType: resourceType ?? "",
		count: BigInt(count),
	});
}
