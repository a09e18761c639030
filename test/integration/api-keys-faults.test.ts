import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createAccessClient } from "../../src/client/index.ts";
import type { TenantId } from "../../src/event/event.ts";
import { Role } from "../../src/gen/audit/v1/access_service_pb.ts";
import { beforeCommit } from "../support/before-commit.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type Fault, type PostgresProxy, startPostgresProxy } from "../support/postgres-proxy.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { openWritePath } from "../support/write-path.ts";

/** What a fault in the middle of a change costs: a key and the event that tells of it are both there, or neither is. */

let database: TestDatabase;
let admin: Client;
let proxy: PostgresProxy;
let service: ServiceProcess;
let key: string;

beforeEach(async () => {
	database = await createTestDatabase();
	proxy = await startPostgresProxy(database.url);
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	key = await createKey(database.url, "operator", "all");
	const path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	await path.tenants.create("acme" as TenantId, "acme");
	await path.close();
	service = await startService({ DATABASE_URL: proxy.url });
});

afterEach(async () => {
	await service.stop();
	await proxy.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await database.drop();
});

const operator = () => createAccessClient({ url: service.httpUrl, key, attempts: 1 });
const create = () => operator().createApiKey({ name: "billing", role: Role.WRITER, tenantIds: ["acme"] });

const changeAnd = <T>(change: () => Promise<T>, act: () => Promise<void> | void) => beforeCommit(admin, change, act);

/** The keys of acme, and what its log says of keys. */
async function found(): Promise<{ keys: string[]; told: string[] }> {
	const keys = await admin.query<{ id: string }>("SELECT id FROM audit.api_keys WHERE 'acme' = ANY (tenant_ids)");
	const told = await admin.query<{ text: string }>(
		"SELECT action || ' ' || resource_id AS text FROM audit.events WHERE action LIKE 'audit.key.%' ORDER BY batch_id, ord",
	);
	return { keys: keys.rows.map(({ id }) => id), told: told.rows.map(({ text }) => text) };
}

test("killed before COMMIT, nothing was done", async () => {
	await changeAnd(create, async () => {
		service.kill("SIGKILL");
		await service.exited();
		// The server process finds nobody there only when it has the lock; its transaction must not end before.
		proxy.cut();
	});
	await waitFor(async () => {
		const { rowCount } = await admin.query(
			"SELECT FROM pg_locks WHERE relation = 'audit.api_keys'::regclass AND mode = 'RowExclusiveLock'",
		);
		return rowCount === 0;
	});
	expect(await found()).toEqual({ keys: [], told: [] });
}, 60_000);

test("killed between COMMIT and answer, all was done: the list has the key, the log tells of it", async () => {
	const answer = changeAnd(create, () => proxy.next("hold the reply"));
	await waitFor(() => proxy.held > 0, { what: "the commit" });
	service.kill("SIGKILL");
	await service.exited();
	expect(await answer).toBeUndefined();
	const { keys, told } = await found();
	expect(keys).toHaveLength(1);
	expect(told).toEqual([`audit.key.created ${keys[0]}`]);
}, 60_000);

test.each<Fault>(["lose the reply", "roll back instead"])(
	"a COMMIT that is spoilt (%s): the answer is true, and each change is told of once",
	async (fault) => {
		const made = await changeAnd(create, () => proxy.next(fault));
		expect(proxy.applied).toBe(1);
		if (fault === "roll back instead") {
			// The server said that it was not done, and the caller is told.
			expect(made).toBeUndefined();
			expect(await found()).toEqual({ keys: [], told: [] });
			return;
		}
		const id = made?.key?.id ?? "";
		expect(await found()).toEqual({ keys: [id], told: [`audit.key.created ${id}`] });

		const rotated = await changeAnd(
			() => operator().rotateApiKey({ id }),
			() => proxy.next(fault),
		);
		expect(rotated?.replaced.map((each) => each.id)).toEqual([id]);
		const next = rotated?.key?.id ?? "";
		const revoked = await changeAnd(
			() => operator().revokeApiKey({ id }),
			() => proxy.next(fault),
		);
		expect(revoked).toMatchObject({ changed: true, key: { id } });
		expect(proxy.applied).toBe(3);
		expect((await found()).told).toEqual([
			`audit.key.created ${id}`,
			`audit.key.rotated ${next}`,
			`audit.key.revoked ${id}`,
		]);
		// The text that was given out is that of the key that is there.
		const headers = { "x-api-key": rotated?.secret ?? "" };
		const { status } = await fetch(`${service.httpUrl}/v1/audit/events?tenant_id=acme`, { headers });
		// A writer may not search: it is known.
		expect(status).toBe(403);
	},
	60_000,
);

test("a key for every tenant is told of in the service's log, once, also where the reply to COMMIT is lost", async () => {
	// Nothing is told to a tenant, so there is no chain to wait for.
	proxy.next("lose the reply");
	const made = await operator().createApiKey({ name: "Jane's", role: Role.READER, allTenants: true });
	expect(proxy.applied).toBe(1);
	await service.stop();
	const lines = service.stdout.split("\n").filter((line) => line.includes("key for every tenant changed"));
	expect(lines.map((line) => JSON.parse(line))).toMatchObject([
		{ level: 30, change: "created", key_id: made.key?.id, role: "reader", by: key.split("_")[1] },
	]);
	expect(service.stdout).not.toContain("Jane");
}, 60_000);

test("when a key was last used is written when the service ends", async () => {
	await create();
	await service.stop();
	const { rows } = await admin.query<{ id: string; used: boolean; recently: boolean }>(
		`SELECT id, last_used_at IS NOT NULL AS used, last_used_at > now() - interval '1 minute' AS recently
		 FROM audit.api_keys ORDER BY created_at`,
	);
	expect(rows).toMatchObject([{ id: key.split("_")[1], used: true, recently: true }, { used: false }]);
});
