import { toJsonString } from "@bufbuild/protobuf";
import { Client } from "pg";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { deriveKeys } from "../../../src/auth/secret.ts";
import type { Micros, TenantId } from "../../../src/event/event.ts";
import { microsOfDate } from "../../../src/event/time.ts";
import { ActorType, type Event, EventSchema } from "../../../src/gen/audit/v1/event_pb.ts";
import { type Clerk, Redriver } from "../../../src/ingest/redrive.ts";
import type { LetterKey } from "../../../src/storage/dead-letters.ts";
import { LetterSettler } from "../../../src/storage/settle-letter.ts";
import { checkTrail } from "../../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { anEvent, openWritePath, type WritePath } from "../../support/write-path.ts";

let database: TestDatabase;
let path: WritePath;
let admin: Client;
let redriver: Redriver;

beforeEach(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	const keys = deriveKeys(testSecret());
	const settler = new LetterSettler({
		...path,
		manifestKey: keys.manifests,
		contentMacKey: keys.contentMacs,
		logger: pino({ level: "silent" }),
		onAppended: (head) => void path.heads.push(head),
	});
	redriver = new Redriver({ db: path.db, ingest: path.ingest, settler });
});

afterEach(async () => {
	await path.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await database.drop();
});

async function storeLetter(event: Event, tenantId = event.tenantId): Promise<LetterKey> {
	const key = { streamCreated: new Date("2026-01-31T12:00:00Z"), streamSeq: 1n, position: 0 };
	const letter = {
		...key,
		subject: "audit.events",
		headers: {},
		body: Buffer.from(toJsonString(EventSchema, event)),
		isPart: false,
		publishedAt: microsOfDate(key.streamCreated),
		tenantId: tenantId as TenantId,
		reason: "TENANT_NOT_FOUND",
		message: "as it was",
		violations: [],
	};
	await path.appender.append([{ rows: [], atomic: false, deadLetters: [letter] }]);
	return key;
}

const everybody: Clerk = {
	keyId: "0123456789ab",
	actor: { type: ActorType.API_KEY, id: "0123456789ab", displayName: "somebody" },
	scope: "all",
	mayWrite: () => true,
};

const outcomes = async (key: LetterKey, clerk: Clerk, dryRun: boolean) =>
	(await redriver.redrive([key], clerk, { dryRun })).map(({ outcome }) => outcome);

test("a dry run makes no tenant, though redriving would", async () => {
	const key = await storeLetter(anEvent({ tenantId: "newco" }));
	expect(await outcomes(key, everybody, true)).toEqual(["would_be_stored"]);
	expect((await admin.query("SELECT FROM audit.tenants")).rowCount).toBe(0);
	expect(await outcomes(key, everybody, false)).toEqual(["stored"]);
	expect((await admin.query("SELECT FROM audit.tenants")).rowCount).toBe(1);
	expect(path.heads).toHaveLength(2);
});

test("a partition that somebody dropped is made again", async () => {
	const year = new Date().getUTCFullYear() - 3;
	const seconds = Date.UTC(year, 4, 1) / 1000;
	const key = await storeLetter(anEvent({ occurredAt: { seconds: BigInt(seconds), nanos: 0 } }));
	await path.partitions.ensure([(BigInt(seconds) * 1_000_000n) as Micros]);
	await admin.query(`DROP TABLE audit.events_${year}_05`);
	expect(await outcomes(key, everybody, false)).toEqual(["stored"]);
});

test("an event goes to no tenant that the key may not write to, whatever letter it is in", async () => {
	await path.tenants.create("globex" as TenantId, "globex");
	const key = await storeLetter(anEvent({ tenantId: "globex" }), "acme");
	const scope = new Set(["acme" as TenantId]);
	const ofAcme = {
		keyId: "0123456789ab",
		actor: { type: ActorType.API_KEY, id: "0123456789ab", displayName: "somebody" },
		scope,
		mayWrite: (tenantId: TenantId) => scope.has(tenantId),
	};
	for (const dryRun of [true, false]) {
		const [result] = await redriver.redrive([key], ofAcme, { dryRun });
		expect(result).toMatchObject({ outcome: "refused", refusal: { reason: "TENANT_NOT_FOUND" } });
	}
	expect((await admin.query("SELECT FROM audit.events WHERE kind = 1")).rowCount).toBe(0);
});
