import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Postgres } from "../../src/dev/postgres.ts";
import { migrate } from "../../src/storage/migrate.ts";
import { verifyTrail } from "../../src/storage/verify.ts";
import { createTestDatabase, startOwnPostgres, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath } from "../support/write-path.ts";

/** What guards the rows can be taken away by whoever has the owner's rights or more. `auditlog verify` tells. */

describe("verify tells of a guard that was taken from a table", () => {
	let database: TestDatabase;
	let admin: Client;
	let leaf: string;

	beforeEach(async () => {
		database = await createTestDatabase();
		const path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
		await path.ingest.accept([anEvent(), anEvent({ tenantId: "globex" })], aWriter(), { atomic: false });
		await path.close();
		admin = new Client({ connectionString: database.url });
		await admin.connect();
		const { rows } = await admin.query(
			"SELECT inhrelid::regclass::text AS leaf FROM pg_inherits WHERE inhparent = 'audit.events'::regclass",
		);
		leaf = rows[0].leaf;
		expect(await problems()).toEqual([]);
	});

	afterEach(async () => {
		await admin.end();
		await database.drop();
	});

	async function problems(): Promise<string[]> {
		const { problems, ok } = await verifyTrail({ databaseUrl: database.url, secret: testSecret() });
		expect(ok).toBe(problems.length === 0);
		return problems.map(({ message }) => message);
	}

	test.each([
		["DISABLE ROW LEVEL SECURITY", "has no row-level security"],
		["NO FORCE ROW LEVEL SECURITY", "does not force row-level security"],
		["DISABLE TRIGGER immutable", "has no working trigger against changes"],
		["ENABLE REPLICA TRIGGER immutable", "has no working trigger against changes"],
	])("ALTER TABLE … %s, on a leaf and on the parent", async (change, message) => {
		for (const table of [leaf, "audit.events"]) {
			await admin.query(`ALTER TABLE ${table} ${change}`);
			expect((await problems()).filter((told) => told === `${table} ${message}`)).toHaveLength(1);
		}
	});

	test("a trigger that was dropped, or put back as one that does less", async () => {
		const others = ["manifests", "tenants", "tenant_changes", "dead_letters", "dead_letter_actions"];
		for (const table of [leaf, ...others.map((name) => `audit.${name}`)]) {
			await admin.query(`DROP TRIGGER immutable ON ${table}`);
			expect(await problems()).toEqual([`${table} has no working trigger against changes`]);
			await admin.query(
				`CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON ${table} FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()`,
			);
			expect(await problems()).toEqual([`${table} has no working trigger against changes`]);
			await admin.query(
				`CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ${table} FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()`,
			);
			expect(await problems()).toEqual([]);
		}
	});

	test.each(["immutable", "few_changes"])("the trigger %s, of keys", async (trigger) => {
		await admin.query(`ALTER TABLE audit.api_keys DISABLE TRIGGER ${trigger}`);
		expect(await problems()).toEqual(["audit.api_keys has no working trigger against changes"]);
		await admin.query(`ALTER TABLE audit.api_keys ENABLE TRIGGER ${trigger}`);
		expect(await problems()).toEqual([]);
	});

	test("a partition that was not made by the service's function", async () => {
		await admin.query(
			"CREATE TABLE audit.mine PARTITION OF audit.events FOR VALUES FROM ('1999-01-01') TO ('1999-02-01'); CREATE TABLE audit.beside (id int)",
		);
		expect((await problems()).sort()).toEqual([
			"audit.beside has no row-level security",
			"audit.mine does not force row-level security",
			"audit.mine has no row-level security",
			"audit.mine has no working trigger against changes",
		]);
	});
});

describe("verify tells of a role that can do too much", () => {
	let postgres: Postgres;
	let admin: Client;

	beforeAll(async () => {
		// Its own: roles belong to the server.
		postgres = await startOwnPostgres();
		await migrate({ databaseUrl: postgres.url, secret: testSecret() });
		admin = new Client({ connectionString: postgres.url });
		await admin.connect();
	});

	afterAll(async () => {
		await admin?.end();
		await postgres?.stop();
	});

	test.each([
		[
			"ALTER ROLE audit_reader BYPASSRLS",
			"ALTER ROLE audit_reader NOBYPASSRLS",
			"audit_reader bypasses row-level security",
		],
		["ALTER ROLE audit_writer SUPERUSER", "ALTER ROLE audit_writer NOSUPERUSER", "audit_writer is a superuser"],
		[
			"GRANT audit_verifier TO audit_reader",
			"REVOKE audit_verifier FROM audit_reader",
			"audit_reader has the rights of audit_verifier",
		],
	])("%s", async (change, back, message) => {
		const problems = async () =>
			(await verifyTrail({ databaseUrl: postgres.url, secret: testSecret() })).problems.map(
				(problem) => problem.message,
			);
		await admin.query(change);
		expect(await problems()).toEqual([message]);
		await admin.query(back);
		expect(await problems()).toEqual([]);
	});
});
