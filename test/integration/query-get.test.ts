import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import { AuditError } from "../../src/errors.ts";
import type { Micros, TenantId } from "../../src/event/event.ts";
import { newEventId } from "../../src/event/identity.ts";
import { rfc3339, timestampOf } from "../../src/event/time.ts";
import { GetEventRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { Query } from "../../src/query/query.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

let database: TestDatabase;
let path: WritePath;
let query: Query;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	query = new Query({ db: path.db, pageTokenKey: deriveKeys(testSecret()).pageTokens });
	return async () => {
		await path.close();
		await database.drop();
	};
});

afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

const DAY = 86_400_000_000n;
const NOW = BigInt(Date.now()) * 1000n + 123n;
const ago = (micros: bigint) => (NOW - micros) as Micros;

async function write(init: MessageInitShape<typeof EventSchema>): Promise<string> {
	const [result] = await path.ingest.accept([anEvent(init)], aWriter(), { atomic: true });
	if (!result?.ok) throw result?.error ?? new Error("no result");
	expect(result.duplicate).toBe(false);
	return result.event.id;
}

function get(init: MessageInitShape<typeof GetEventRequestSchema>, tenant = "acme") {
	return query.get(create(GetEventRequestSchema, init), tenant as TenantId, NOTHING_MASKED);
}

const failure = (promise: Promise<unknown>) =>
	promise.then(
		() => expect.unreachable(),
		(error: unknown) => {
			expect(error).toBeInstanceOf(AuditError);
			return error as AuditError;
		},
	);

describe("an event is found by its id alone", () => {
	test.each([
		["made by the service", { occurredAt: timestampOf(ago(0n)) }],
		["made from an idempotency key", { occurredAt: timestampOf(ago(DAY)), idempotencyKey: "order-1" }],
		["of the caller's, naming its own time", { id: newEventId(ago(40n * DAY)) }],
		["of the caller's, naming another time", { id: newEventId(ago(0n)), occurredAt: timestampOf(ago(70n * DAY)) }],
		["of the caller's, naming no time", { id: randomUUID(), occurredAt: timestampOf(ago(400n * DAY)) }],
		[
			"of the caller's, naming a time no calendar has",
			{ id: "ffffffff-ffff-7fff-bfff-ffffffffffff", occurredAt: timestampOf(ago(0n)) },
		],
		["of zeros alone", { id: "00000000-0000-0000-0000-000000000000", occurredAt: timestampOf(ago(1n)) }],
	])("%s", async (_what, init) => {
		const id = await write({ ...init, action: "file.read" });
		const found = await get({ id });
		expect([found.id, found.action, found.tenantId]).toEqual([id, "file.read", "acme"]);
		expect((await get({ id: id.toUpperCase() })).id).toBe(id);
		expect((await get({ id, occurredAt: found.occurredAt })).id).toBe(id);
	});
});

describe("an id that exists at several times", () => {
	test("needs the time, to the microsecond; the answer lists the times", async () => {
		const id = randomUUID();
		const times = [ago(5n), ago(4n), ago(90n * DAY)];
		for (const time of times) await write({ id, occurredAt: timestampOf(time), action: `at.${time}` });
		const error = await failure(get({ id }));
		expect([error.code, error.reason]).toEqual(["failed_precondition", "EVENT_ID_AMBIGUOUS"]);
		const listed = times.map((time) => rfc3339(time)).sort();
		expect(error.violations.map(({ field }) => field)).toEqual(listed.map(() => "occurred_at"));
		expect(error.violations.map(({ message }) => message)).toEqual(listed);
		for (const time of listed) expect(error.message).toContain(time);
		for (const time of times) {
			expect((await get({ id, occurredAt: timestampOf(time) })).action).toBe(`at.${time}`);
		}
		expect((await failure(get({ id, occurredAt: timestampOf(ago(3n)) }))).code).toBe("not_found");
	});

	test("may name one of them: it is as ambiguous as any other", async () => {
		const id = newEventId(ago(DAY));
		await write({ id });
		await write({ id, occurredAt: timestampOf(ago(2n * DAY)) });
		expect((await failure(get({ id }))).violations).toHaveLength(2);
	});

	test("may stand twice in the millisecond it names", async () => {
		const millisecond = (ago(3n * DAY) / 1000n) * 1000n;
		const id = newEventId(millisecond as Micros);
		await write({ id, occurredAt: timestampOf(millisecond as Micros) });
		await write({ id, occurredAt: timestampOf((millisecond + 999n) as Micros) });
		expect((await failure(get({ id }))).violations).toHaveLength(2);
	});

	test("lists ten times at most and says that there are others", async () => {
		const id = randomUUID();
		for (let i = 0n; i < 12n; i += 1n) await write({ id, occurredAt: timestampOf(ago(i)) });
		const error = await failure(get({ id }));
		expect(error.violations).toHaveLength(10);
		expect(error.message).toMatch(/, and others$/);
	});
});

describe("not found is", () => {
	const notFound = ["not_found", "EVENT_NOT_FOUND"];
	const answer = async (promise: Promise<unknown>) => {
		const { code, reason } = await failure(promise);
		return [code, reason];
	};

	test("an id nobody used, of whatever version", async () => {
		for (const id of [randomUUID(), newEventId(ago(0n)), "01234567-89ab-8def-8123-456789abcdef"]) {
			expect(await answer(get({ id }))).toEqual(notFound);
			expect(await answer(get({ id, occurredAt: timestampOf(ago(0n)) }))).toEqual(notFound);
		}
	});

	test("another tenant's event, by id or by its full key", async () => {
		const occurredAt = timestampOf(ago(9n));
		for (const id of [newEventId(ago(9n)), randomUUID()]) {
			await write({ id, occurredAt });
			expect(await answer(get({ id }, "globex"))).toEqual(notFound);
			expect(await answer(get({ id, occurredAt }, "globex"))).toEqual(notFound);
			expect((await get({ id, tenantId: "globex" })).tenantId).toBe("acme");
		}
	});

	test("a time at which there never was an event", async () => {
		const id = await write({});
		for (const seconds of [-62_135_596_800n, 0n, 253_402_300_799n]) {
			expect(await answer(get({ id, occurredAt: { seconds, nanos: 0 } }))).toEqual(notFound);
		}
	});
});

test("a bad request is refused with all that is wrong with it", async () => {
	for (const id of ["", "x", `${randomUUID()} `, randomUUID().replaceAll("-", "")]) {
		const error = await failure(get({ id, occurredAt: { seconds: 0n, nanos: -1 } }));
		expect(error.code).toBe("invalid_argument");
		expect(error.violations.map(({ field }) => field)).toEqual(["id", "occurred_at"]);
	}
});
