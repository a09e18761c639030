import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createTenantClient } from "../../src/client/index.ts";
import { beforeCommit } from "../support/before-commit.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type Fault, type PostgresProxy, startPostgresProxy } from "../support/postgres-proxy.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";
import { refusalOf } from "../support/tenant-service.ts";

/** What a fault in the middle of a change costs: the change and its event are both there, or neither. */

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
	await start();
	await tenants().createTenant({ id: "acme", name: "Acme" });
});

afterEach(async () => {
	await service.stop();
	await proxy.close();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await admin.end();
	await database.drop();
});

async function start(): Promise<void> {
	service = await startService({ DATABASE_URL: proxy.url });
}

const tenants = (attempts = 1) => createTenantClient({ url: service.httpUrl, key, attempts });

/** The changes there are and the events that tell of them. */
async function state(): Promise<{ tenants: string[]; changes: number; told: string[] }> {
	const { rows: made } = await admin.query<{ id: string }>("SELECT id FROM audit.tenants ORDER BY slot");
	const { rowCount: changes } = await admin.query("SELECT FROM audit.tenant_changes");
	const { rows } = await admin.query<{ told: string }>(
		"SELECT tenant_id || ' ' || action AS told FROM audit.events ORDER BY batch_id, ord",
	);
	return { tenants: made.map(({ id }) => id), changes: changes ?? 0, told: rows.map(({ told }) => told) };
}

const BEFORE = { tenants: ["acme"], changes: 0, told: ["acme audit.log.created"] };

interface Change {
	readonly what: string;
	/** @returns whether it was done by this call */
	readonly run: (attempts?: number) => Promise<boolean>;
	readonly after: Awaited<ReturnType<typeof state>>;
}

const CHANGES: readonly Change[] = [
	{
		what: "making a tenant",
		run: async (attempts) => (await tenants(attempts).createTenant({ id: "globex" })).created,
		after: { tenants: ["acme", "globex"], changes: 0, told: [...BEFORE.told, "globex audit.log.created"] },
	},
	{
		what: "renaming one",
		run: async (attempts) => (await tenants(attempts).renameTenant({ id: "acme", name: "Acme 2" })).changed,
		after: { ...BEFORE, changes: 1, told: [...BEFORE.told, "acme audit.tenant.renamed"] },
	},
	{
		what: "disabling one",
		run: async (attempts) => (await tenants(attempts).disableTenant({ id: "acme", reason: "x" })).changed,
		after: { ...BEFORE, changes: 1, told: [...BEFORE.told, "acme audit.tenant.disabled"] },
	},
];

const changeAnd = ({ run }: Change, act: () => Promise<void> | void, attempts = 1) =>
	beforeCommit(admin, () => run(attempts), act);

async function untilNobodyIsAtIt(): Promise<void> {
	await waitFor(async () => {
		const { rowCount } = await admin.query(
			"SELECT FROM pg_locks WHERE relation = 'audit.tenants'::regclass AND mode IN ('RowShareLock', 'RowExclusiveLock')",
		);
		return rowCount === 0;
	});
}

test.each(CHANGES)(
	"$what, killed before COMMIT: neither the change nor its event",
	async (change) => {
		await changeAnd(change, async () => {
			service.kill("SIGKILL");
			await service.exited();
			// The server process finds nobody there only when it has the lock; its transaction must not end before.
			proxy.cut();
		});
		await start();
		await untilNobodyIsAtIt();
		expect(await state()).toEqual(BEFORE);
		expect(await change.run()).toBe(true);
		expect(await state()).toEqual(change.after);
	},
	60_000,
);

test.each(CHANGES)(
	"$what, killed between COMMIT and answer: both, and the next call changes nothing",
	async (change) => {
		const answer = changeAnd(change, () => proxy.next("hold the reply"));
		await waitFor(() => proxy.held > 0, { what: "the commit" });
		service.kill("SIGKILL");
		await service.exited();
		expect(await answer).toBeUndefined();
		await start();
		expect(await state()).toEqual(change.after);
		expect(await change.run()).toBe(false);
		expect(await state()).toEqual(change.after);
	},
	60_000,
);

test.each<Fault>(["lose the reply", "break before", "roll back instead"])(
	"a COMMIT that is spoilt (%s) is tried again: the change is made and told of once",
	async (fault) => {
		for (const change of CHANGES) {
			const done = await changeAnd(change, () => proxy.next(fault), 3);
			// Whose reply was lost cannot know that it was the first.
			expect(done).toBe(fault !== "lose the reply");
			const { told } = await state();
			for (const line of change.after.told) expect(told.filter((each) => each === line)).toEqual([line]);
		}
		expect(proxy.applied).toBe(CHANGES.length);
	},
	60_000,
);

test.each(CHANGES)(
	"$what, whose event the database refuses, is not done",
	async (change) => {
		await admin.query(`
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'disk full'
			USING ERRCODE = '53100'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION public.refuse()`);
		expect(await refusalOf(change.run())).toBe("unavailable DATABASE_UNAVAILABLE");
		expect(await state()).toEqual(BEFORE);
		await admin.query("DROP TRIGGER refuse ON audit.events");
		expect(await change.run()).toBe(true);
		expect(await state()).toEqual(change.after);
	},
	60_000,
);
