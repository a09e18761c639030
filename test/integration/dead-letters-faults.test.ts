import { toJsonString } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createDeadLetterClient } from "../../src/client/index.ts";
import type { Nats } from "../../src/dev/nats.ts";
import type { TenantId } from "../../src/event/event.ts";
import { DeadLetterState, RedriveOutcome } from "../../src/gen/audit/v1/dead_letter_service_pb.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { beforeCommit } from "../support/before-commit.ts";
import { checkTrail } from "../support/check-trail.ts";
import { openNatsClient } from "../support/nats-client.ts";
import { type Fault, type PostgresProxy, startPostgresProxy } from "../support/postgres-proxy.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { anEvent, openWritePath } from "../support/write-path.ts";

/** What a fault in the middle of a redrive costs: nothing but another try. The service is a process that may be killed. */

let nats: Nats;
let database: TestDatabase;
let admin: Client;
let proxy: PostgresProxy;
let service: ServiceProcess;
let key: string;
let id: string;

beforeEach(async () => {
	[nats, database] = await Promise.all([startOwnNats(), createTestDatabase()]);
	proxy = await startPostgresProxy(database.url);
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	key = await createKey(database.url, "operator", "all");
	await start();
	id = await makeLetter();
});

afterEach(async () => {
	await service.stop();
	await proxy.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await Promise.all([database.drop(), nats.stop()]);
});

async function start(): Promise<void> {
	service = await startService({ DATABASE_URL: proxy.url, NATS_URL: nats.url, AUDIT_AUTO_CREATE_TENANTS: "false" });
}

const operator = (attempts = 1) => createDeadLetterClient({ url: service.httpUrl, key, attempts });

/** A letter that was refused because its tenant was not there; now it is. */
async function makeLetter(): Promise<string> {
	const client = await openNatsClient(nats.url);
	await waitFor(() => client.jsm.streams.info("AUDIT"), { what: "the stream" });
	await client.publish([{ subject: "audit.events", data: toJsonString(EventSchema, anEvent()) }]);
	await client.close();
	const letter = await waitFor(async () => (await operator().listDeadLetters({})).deadLetters[0], {
		what: "the letter",
	});
	const path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	await path.tenants.create("acme" as TenantId, "acme");
	await path.close();
	return letter.id;
}

const redriveAnd = (act: () => Promise<void> | void, { attempts = 1 } = {}) =>
	beforeCommit(admin, async () => (await operator(attempts).redriveDeadLetters({ ids: [id] })).results[0], act);

/** What was written, but for who looked at the letter. */
async function actions(): Promise<string[]> {
	const { rows } = await admin.query(
		"SELECT action FROM audit.events WHERE action NOT LIKE 'audit.read%' ORDER BY batch_id, ord",
	);
	return rows.map(({ action }) => action);
}

const STORED = ["audit.log.created", "user.login", "audit.dead_letters.redriven"];

async function stateOf() {
	return (await operator().getDeadLetter({ id })).deadLetter?.state;
}

test("killed before COMMIT, nothing was done: the letter is open and can be redriven", async () => {
	await redriveAnd(async () => {
		service.kill("SIGKILL");
		await service.exited();
		// The server process finds nobody there only when it has the lock; its transaction must not end before.
		proxy.cut();
	});
	await start();
	await waitFor(async () => {
		const { rowCount } = await admin.query(
			"SELECT FROM pg_locks WHERE relation = 'audit.dead_letter_actions'::regclass AND mode = 'RowExclusiveLock'",
		);
		return rowCount === 0;
	});
	expect(await actions()).toEqual(["audit.log.created"]);
	expect(await stateOf()).toBe(DeadLetterState.OPEN);
	expect((await operator().redriveDeadLetters({ ids: [id] })).results[0]?.outcome).toBe(RedriveOutcome.STORED);
	expect(await actions()).toEqual(STORED);
}, 60_000);

test("killed between COMMIT and answer, all was done: the next try finds the event stored, once", async () => {
	const answer = redriveAnd(() => proxy.next("hold the reply"));
	await waitFor(() => proxy.held > 0, { what: "the commit" });
	service.kill("SIGKILL");
	await service.exited();
	expect(await answer).toBeUndefined();
	await start();
	expect(await stateOf()).toBe(DeadLetterState.REDRIVEN);
	expect((await operator().redriveDeadLetters({ ids: [id] })).results[0]).toMatchObject({
		outcome: RedriveOutcome.DUPLICATE,
		events: [{ tenantId: "acme", duplicate: true }],
	});
	expect(await actions()).toEqual(STORED);
}, 60_000);

test.each<Fault>(["lose the reply", "break before", "roll back instead"])(
	"a COMMIT that is spoilt (%s) is found out about: the event is stored once, and told of once",
	async (fault) => {
		const result = await redriveAnd(() => proxy.next(fault), { attempts: 3 });
		expect(proxy.applied).toBe(1);
		expect(result).toMatchObject({ outcome: RedriveOutcome.STORED, events: [{ tenantId: "acme", duplicate: false }] });
		expect(await actions()).toEqual(STORED);
		expect(await stateOf()).toBe(DeadLetterState.REDRIVEN);
	},
	60_000,
);
