import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TenantId } from "../../../src/event/event.ts";
import { nextChain } from "../../../src/integrity/manifest.ts";
import { inTenant } from "../../../src/storage/db.ts";
import { asRole } from "../../support/as-role.ts";
import { checkTrail } from "../../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../../support/write-path.ts";

/**
 * What the database itself forbids, whatever the code above it does. More, role by role and object by object, is in
 * `test/integration/database-wall-*.test.ts`.
 */

let database: TestDatabase;
let path: WritePath;
let admin: Client;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	const year = new Date().getUTCFullYear() - 3;
	const old = { seconds: BigInt(Date.UTC(year, 4, 1) / 1000), nanos: 0 };
	await path.ingest.accept([anEvent(), anEvent({ tenantId: "globex" }), anEvent({ occurredAt: old })], aWriter(), {
		atomic: false,
	});
	admin = new Client({ connectionString: database.url });
	await admin.connect();
});

afterAll(async () => {
	await path.close();
	await admin.end();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await database.drop();
});

const as = <T>(role: string, run: (client: Client) => Promise<T>) => asRole(database.url, role, run);

async function leaves(): Promise<string[]> {
	const { rows } = await admin.query(
		"SELECT inhrelid::regclass::text AS leaf FROM pg_inherits WHERE inhparent = 'audit.events'::regclass",
	);
	return rows.map((row) => row.leaf);
}

test("every leaf partition has row-level security, forced, and a trigger of its own against UPDATE, DELETE and TRUNCATE", async () => {
	expect((await leaves()).length).toBeGreaterThanOrEqual(2);
	const { rows } = await admin.query(
		`SELECT c.oid::regclass::text AS leaf, c.relrowsecurity, c.relforcerowsecurity,
		        (SELECT bit_or(t.tgtype) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'immutable' AND t.tgenabled = 'O') AS type
		 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.events'::regclass`,
	);
	// BEFORE (2), DELETE (8), UPDATE (16), TRUNCATE (32)
	for (const row of rows) expect(row).toMatchObject({ relrowsecurity: true, relforcerowsecurity: true, type: 58 });
});

test("the owner itself is told why it cannot change or remove events, on the parent and on each leaf", async () => {
	await admin.query("SET ROLE audit_owner");
	for (const table of ["audit.events", "audit.manifests", ...(await leaves())]) {
		for (const sql of [`UPDATE ${table} SET batch_id = 0`, `DELETE FROM ${table}`, `TRUNCATE ${table}`]) {
			await expect(admin.query(sql)).rejects.toThrow(/audit records are immutable/);
		}
	}
	await admin.query("RESET ROLE");
});

describe("the reader", () => {
	const count = "SELECT count(*)::int AS n FROM audit.events";

	test("sees the one tenant set for the transaction", async () => {
		const seen = await inTenant(
			path.db,
			"globex" as TenantId,
			async (client) => (await client.query("SELECT DISTINCT tenant_id FROM audit.events")).rows,
		);
		expect(seen).toEqual([{ tenant_id: "globex" }]);
	});

	test("sees nothing without a tenant, nor on a connection that had one before", async () => {
		await as("audit_reader", async (reader) => {
			expect((await reader.query(count)).rows[0].n).toBe(0);
			await reader.query("BEGIN");
			await reader.query("SELECT set_config('audit.tenant_id', 'acme', true)");
			expect((await reader.query(count)).rows[0].n).toBeGreaterThan(0);
			await reader.query("COMMIT");
			expect((await reader.query(count)).rows[0].n).toBe(0);
		});
	});

	test("can reach no leaf, manifest or key, and can write nothing", async () => {
		await as("audit_reader", async (reader) => {
			await reader.query("SET default_transaction_read_only = off");
			const [leaf] = await leaves();
			for (const sql of [
				`SELECT * FROM ${leaf}`,
				"SELECT * FROM audit.manifests",
				"SELECT * FROM audit.api_keys",
				"INSERT INTO audit.dead_letters SELECT * FROM audit.dead_letters",
				"SELECT * FROM audit.lock_dead_letter(now(), 1, 0)",
				"INSERT INTO audit.events (tenant_id) SELECT tenant_id FROM audit.events",
				"SELECT audit.ensure_partition(now())",
				"SELECT audit.create_tenant('x', 'x')",
			]) {
				await expect(reader.query(sql)).rejects.toMatchObject({ code: "42501" });
			}
		});
	});
});

test("a type of the writer's own making is not taken for PostgreSQL's by functions that run as the owner", async () => {
	// Only where temporary objects are allowed at all: migrations forbid them, a copy of a database forgets it.
	await admin.query(`GRANT TEMPORARY ON DATABASE ${database.name} TO PUBLIC`);
	await as("audit_writer", async (writer) => {
		await writer.query(`
			CREATE FUNCTION pg_temp.become_owner(v pg_catalog.int2) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN
				IF current_user = 'audit_owner' THEN EXECUTE 'GRANT SELECT ON audit.events TO audit_writer'; END IF;
				RETURN true;
			END $$`);
		await writer.query("CREATE DOMAIN pg_temp.int2 AS pg_catalog.int2 CHECK (pg_temp.become_owner(VALUE))");
		// A call that succeeds, so that whatever it did would last; undone at the end, so that the trail stays whole.
		await writer.query("BEGIN");
		const { rows } = await writer.query("SELECT * FROM audit.lock_chain()");
		const digest = Buffer.alloc(32);
		const chain = nextChain(BigInt(rows[0].next_no), rows[0].previous_chain, digest);
		await writer.query("SELECT audit.append_batch($1, 1, 0, $2, $3, $2, $2)", [rows[0].next_no, digest, chain]);
		await expect(writer.query("SELECT u_actor FROM audit.events")).rejects.toMatchObject({ code: "42501" });
		await writer.query("ROLLBACK");
	});
});

test("no partition is made for times that no event can have", async () => {
	for (const time of ["2000-01-01", "2100-01-01"]) {
		await expect(path.db.maintainer.query("SELECT audit.ensure_partition($1)", [time])).rejects.toMatchObject({
			code: "22023",
		});
	}
});
