import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/storage/migrate.ts";
import { asRole, LOGIN_ROLES } from "../support/as-role.ts";
import { checkTrail } from "../support/check-trail.ts";
import { GRANTS } from "../support/database-wall.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

/** What a role of the service is refused that has its own login and any statement it likes. */

let database: TestDatabase;
let path: WritePath;
let admin: Client;
let leaf: string;

beforeAll(async () => {
	database = await createTestDatabase();
	// Says again of this copy what was said of the database it was copied from.
	await migrate({ databaseUrl: database.url, secret: testSecret() });
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	const events = ["acme", "globex"].flatMap((tenantId) =>
		Array.from({ length: 30 }, (_, i) => anEvent({ tenantId, actor: { id: `of-${tenantId}-${i % 2}` } })),
	);
	await path.ingest.accept(events, aWriter(), { atomic: false });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	await admin.query("ANALYZE");
	const { rows } = await admin.query(
		"SELECT inhrelid::regclass::text AS leaf FROM pg_inherits WHERE inhparent = 'audit.events'::regclass",
	);
	leaf = rows[0].leaf;
});

afterAll(async () => {
	await path.close();
	await admin.end();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await database.drop();
});

/** A table and one of its columns. */
const CHANGEABLE = [
	["audit.events", "batch_id"],
	["audit.manifests", "batch_id"],
	["audit.tenants", "name"],
	["audit.dead_letters", "message"],
	["audit.dead_letter_actions", "reason"],
	["audit.api_keys", "role"],
] as const;

describe.each(LOGIN_ROLES)("%s", (role) => {
	const others = [...LOGIN_ROLES, "audit_owner", "postgres"].filter((other) => other !== role);

	test.each([
		[
			"becomes no other role",
			() => others.flatMap((other) => [`SET ROLE ${other}`, `SET SESSION AUTHORIZATION ${other}`]),
		],
		[
			"reaches no leaf, also not by what copies, prints or locks it",
			() => [
				`SELECT FROM ${leaf}`,
				`SELECT ctid FROM ${leaf} TABLESAMPLE SYSTEM (100)`,
				`COPY ${leaf} TO STDOUT`,
				`SELECT table_to_xml('${leaf}', true, false, '')`,
				`SELECT query_to_xml('SELECT * FROM ${leaf}', true, false, '')`,
				`INSERT INTO ${leaf} DEFAULT VALUES`,
				`BEGIN; LOCK TABLE ${leaf} IN ACCESS SHARE MODE`,
				`CREATE INDEX ON ${leaf} (id)`,
			],
		],
		[
			"changes and removes nothing, and switches nothing off",
			() =>
				[...CHANGEABLE, [leaf, "batch_id"] as const].flatMap(([table, column]) => [
					`UPDATE ${table} SET ${column} = ${column}`,
					`DELETE FROM ${table}`,
					`TRUNCATE ${table}`,
					`SELECT FROM ${table} FOR UPDATE`,
					`BEGIN; LOCK TABLE ${table} IN SHARE MODE`,
					`ALTER TABLE ${table} DISABLE TRIGGER ALL`,
					`ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY`,
					`CREATE POLICY mine ON ${table} USING (true)`,
					`CREATE RULE mine AS ON INSERT TO ${table} DO INSTEAD NOTHING`,
					`ALTER TABLE ${table} OWNER TO CURRENT_USER`,
					`DROP TABLE ${table}`,
				]),
		],
		[
			"makes nothing, in no schema, and no temporary function that could be asked of hidden rows",
			() => [
				"CREATE TABLE audit.mine ()",
				"CREATE TABLE public.mine ()",
				"CREATE TABLE audit_migrations.mine ()",
				"CREATE SCHEMA mine",
				"CREATE TEMPORARY TABLE mine ()",
				"CREATE TEMPORARY VIEW mine AS SELECT 1",
				"CREATE FUNCTION audit.mine(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
				"CREATE FUNCTION public.mine(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
				"CREATE FUNCTION pg_temp.mine(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
				"DO $$ BEGIN EXECUTE 'CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS ''SELECT 1'''; END $$",
				"CREATE EXTENSION dblink",
				"CREATE EXTENSION postgres_fdw",
				"CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION audit.refuse_change()",
				"CREATE PUBLICATION mine FOR TABLE audit.events",
			],
		],
		[
			"reaches neither the server's files, programs and passwords nor other people's connections",
			() => [
				"SELECT pg_read_file('PG_VERSION')",
				"SELECT pg_read_binary_file('PG_VERSION')",
				"SELECT pg_ls_dir('.')",
				"SELECT lo_import('/etc/passwd')",
				"SELECT lo_export(1, '/tmp/x')",
				"COPY (SELECT 1) TO '/tmp/x'",
				"COPY (SELECT 1) TO PROGRAM 'id'",
				"SELECT FROM pg_authid",
				"SELECT FROM pg_shadow",
				"SELECT FROM pg_hba_file_rules",
				"SELECT FROM pg_statistic",
				"SELECT FROM pg_statistic_ext_data",
				"SELECT FROM pg_largeobject",
				"SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
				"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
				"SET session_replication_role = replica",
				"LOAD 'auto_explain'",
				"ALTER SYSTEM SET work_mem = '1MB'",
			],
		],
	])("%s", async (_, statements) => {
		await asRole(database.url, role, async (client) => {
			// Refused by the rights it lacks, not because its transactions begin as read-only ones.
			await client.query("SET default_transaction_read_only = off");
			for (const sql of statements()) {
				await expect(client.query(sql), sql).rejects.toMatchObject({ code: "42501" });
				await client.query("ROLLBACK");
			}
		});
	});

	test("keeps nothing outside of the tables: no large object, where a superuser migrated", async () => {
		const isManaged = process.env.TEST_MANAGED_POSTGRES !== undefined;
		await asRole(database.url, role, async (client) => {
			for (const sql of ["SELECT lo_create(0)", "SELECT lo_creat(-1)", "SELECT lo_from_bytea(0, 'kept')"]) {
				await client.query("BEGIN READ WRITE");
				const made = client.query(sql);
				if (isManaged) await made;
				else await expect(made, sql).rejects.toMatchObject({ code: "42501" });
				await client.query("ROLLBACK");
			}
		});
	});

	test("is shown statistics of no column that it may not read", async () => {
		const readable = GRANTS.flatMap((line) =>
			line.startsWith(`${role}: SELECT on audit.events(`) ? (/\((.*)\)/.exec(line)?.[1]?.split(", ") ?? []) : [],
		);
		await asRole(database.url, role, async (client) => {
			const { rows } = await client.query(
				"SELECT tablename, attname, most_common_vals::text AS common FROM pg_stats WHERE schemaname LIKE 'audit%'",
			);
			const ofEvents = rows.filter(({ tablename }) => tablename === "events" || tablename.startsWith("events_"));
			expect(ofEvents.filter(({ attname }) => !readable.includes(attname))).toEqual([]);
			expect(JSON.stringify(rows)).not.toContain("of-globex");
			expect((await client.query("SELECT FROM pg_stats_ext")).rowCount).toBe(0);
			expect((await client.query("SELECT FROM pg_stats_ext_exprs")).rowCount).toBe(0);
		});
		// What there was to be shown.
		const { rows } = await admin.query(
			"SELECT FROM pg_stats WHERE attname = 'actor_id' AND most_common_vals::text LIKE '%of-globex%'",
		);
		expect(rows.length).toBeGreaterThan(0);
	});

	test("is shown no statement of another role's", async () => {
		await asRole(database.url, role, async (client) => {
			const { rows } = await client.query(
				`SELECT usename, query FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user
				 AND query <> '<insufficient privilege>'`,
			);
			expect(rows).toEqual([]);
			const others = await client.query("SELECT FROM pg_stat_activity WHERE usename = 'postgres'");
			expect(others.rowCount).toBeGreaterThan(0);
		});
	});
});

describe("audit_writer", () => {
	test("reads the keys and hashes it was given and no other column, also not as a condition, a whole row or what it inserted", async () => {
		const { rows: columns } = await admin.query(
			`SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
			 WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0
			   AND NOT a.attisdropped`,
		);
		expect(columns.length).toBeGreaterThan(50);
		const granted = (table: string, column: string) =>
			GRANTS.some((line) => {
				const [, name, listed] = /^audit_writer: SELECT on audit\.(\w+)\((.*)\)$/.exec(line) ?? [];
				return name === table && listed?.split(", ").includes(column);
			});
		await asRole(database.url, "audit_writer", async (writer) => {
			for (const { relname, attname } of columns) {
				const statements = [
					`SELECT ${attname} FROM audit.${relname}`,
					`SELECT FROM audit.${relname} WHERE ${attname} IS NULL`,
					`SELECT FROM audit.${relname} ORDER BY ${attname}`,
				];
				for (const sql of statements) {
					if (granted(relname, attname)) await writer.query(sql);
					else await expect(writer.query(sql), sql).rejects.toMatchObject({ code: "42501" });
				}
			}
			for (const sql of [
				"SELECT e FROM audit.events e",
				"SELECT row_to_json(e) FROM audit.events e",
				"COPY audit.events TO STDOUT",
				"COPY (SELECT u_actor FROM audit.events) TO STDOUT",
				`INSERT INTO audit.events (tenant_id) VALUES ('acme') RETURNING u_actor`,
				`INSERT INTO audit.events (tenant_id) VALUES ('acme') ON CONFLICT (tenant_id, occurred_at, id) DO UPDATE SET u_actor = ''`,
				"INSERT INTO audit.tenants VALUES (99, 'mine', '')",
				"INSERT INTO audit.manifests DEFAULT VALUES",
				"INSERT INTO audit.api_keys (id, secret_hash, name, role) VALUES ('k', '', '', 'operator')",
			]) {
				await expect(writer.query(sql), sql).rejects.toMatchObject({ code: "42501" });
			}
		});
	});

	test("learns from a key that is taken nothing but the key it sent", async () => {
		const { rows } = await admin.query(
			"SELECT id, occurred_at::text AS at FROM audit.events WHERE tenant_id = 'globex' LIMIT 1",
		);
		const [taken] = rows;
		await asRole(database.url, "audit_writer", async (writer) => {
			const insert = writer.query(
				`INSERT INTO audit.events (tenant_id, occurred_at, id, recorded_at, batch_id, ord, kind, hv, timed, category, severity,
				 outcome, actor_type, action, leaf_hash, salts, u_facts) VALUES ('globex', $1, $2, now(), 1, 0, 1, 1, true, 0, 0, 0, 0,
				 'a.b', '', '', '{}')`,
				[taken.at, taken.id],
			);
			const error = await insert.catch((refusal: unknown) => refusal);
			expect(error).toMatchObject({ code: "23505" });
			expect(JSON.stringify(error)).not.toMatch(/of-globex|u_actor/);
		});
	});
});
