import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Postgres } from "../../src/dev/postgres.ts";
import { migrate } from "../../src/storage/migrate.ts";
import { asRole } from "../support/as-role.ts";
import {
	FUNCTIONS,
	functionsOf,
	GRANTS,
	grantsOf,
	LEAF,
	otherObjectsOf,
	POLICIES,
	policiesOf,
	reachOf,
	TABLES,
	tablesOf,
} from "../support/database-wall.ts";
import { createManagedDatabase } from "../support/managed-postgres.ts";
import { createTestDatabase, startOwnPostgres, testSecret } from "../support/services.ts";

/**
 * The catalogue of a migrated database in which partitions were made, object by object: nothing is there that was not
 * listed, and nobody may what was not said. On a server of its own: the roles belong to the server, and a database that is
 * copied loses what was said of the database itself.
 */

const SERVICE_ROLES = [
	"audit_finder",
	"audit_maintainer",
	"audit_owner",
	"audit_reader",
	"audit_verifier",
	"audit_writer",
];

describe.each([
	{ by: "a superuser", isManaged: false },
	{ by: "an owner who is no superuser", isManaged: true },
])("migrated by $by", ({ isManaged }) => {
	let postgres: Postgres;
	let url: string;
	let admin: Client;
	/** The partitions made. */
	const leaves: string[] = [];

	beforeAll(async () => {
		postgres = await startOwnPostgres();
		const migrateAs = isManaged ? (await createManagedDatabase(postgres.url)).url : postgres.url;
		await migrate({ databaseUrl: migrateAs, secret: testSecret() });
		const asSuperuser = new URL(postgres.url);
		asSuperuser.pathname = new URL(migrateAs).pathname;
		url = asSuperuser.href;
		await asRole(url, "audit_maintainer", async (maintainer) => {
			const now = new Date();
			for (const back of [-1, 0, 1, 11, 37, 118]) {
				const month = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1));
				const { rows } = await maintainer.query("SELECT audit.ensure_partition($1) AS leaf", [month]);
				leaves.push(rows[0].leaf);
			}
		});
		admin = new Client({ connectionString: url });
		await admin.connect();
	});

	afterAll(async () => {
		await admin?.end();
		await postgres?.stop();
	});

	describe("every object is listed, and is as it is listed", () => {
		test("tables, views and sequences: owner, row-level security, triggers; every partition like the next", async () => {
			expect(leaves).toHaveLength(6);
			expect(await tablesOf(admin)).toEqual([...TABLES, ...leaves.map((leaf) => `audit.${leaf}: ${LEAF}`)].sort());
		});

		test("functions: whose rights they have, with a search path that is pinned and ends with temporary schemas", async () => {
			expect(await functionsOf(admin)).toEqual([...FUNCTIONS].sort());
		});

		test("policies: which role, which command, every row or some", async () => {
			expect(await policiesOf(admin)).toEqual([...POLICIES].sort());
		});

		test("nothing else is there: no type, schema, extension, publication, event trigger, foreign server, language or large object", async () => {
			expect(await otherObjectsOf(admin)).toEqual([]);
		});
	});

	describe("nobody may what was not said", () => {
		test("grants on tables, columns, functions, schemas and the database are these, and nobody may hand one on", async () => {
			expect(await grantsOf(admin)).toEqual([...GRANTS].sort());
		});

		test("no role of the service owns, or is named by, anything outside these schemas", async () => {
			expect(await reachOf(admin)).toEqual([]);
		});

		test("nobody is a superuser, makes roles or databases or replicates; the writer at most bypasses row-level security", async () => {
			const { rows } = await admin.query(
				`SELECT rolname, rolcanlogin, rolbypassrls, rolinherit,
				        rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication AS powers
				 FROM pg_roles WHERE rolname LIKE 'audit\\_%' ORDER BY rolname`,
			);
			expect(rows).toEqual(
				SERVICE_ROLES.map((rolname) => ({
					rolname,
					rolcanlogin: rolname !== "audit_owner" && rolname !== "audit_finder",
					rolbypassrls: rolname === "audit_writer" && !isManaged,
					rolinherit: true,
					powers: false,
				})),
			);
		});

		test("no role of the service is a member of any, and only whoever migrates is a member of one", async () => {
			const { rows } = await admin.query(
				`SELECT r.rolname AS role, m.rolname AS member, m.rolcreaterole AS may_migrate
				 FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
				 WHERE r.rolname LIKE 'audit\\_%' OR m.rolname LIKE 'audit\\_%'`,
			);
			expect(rows.filter(({ member, may_migrate }) => SERVICE_ROLES.includes(member) || !may_migrate)).toEqual([]);
		});

		test("roles bring no settings but time limits and read-only transactions: none begins with a tenant", async () => {
			const { rows } = await admin.query(
				`SELECT s.setrole::regrole::text AS role, s.setdatabase, split_part(setting, '=', 1) AS name
				 FROM pg_db_role_setting s, unnest(s.setconfig) setting
				 WHERE s.setrole = 0 OR s.setrole::regrole::text LIKE 'audit\\_%'`,
			);
			const limits = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
			const expected = ["audit_maintainer", "audit_reader", "audit_writer"].flatMap((role) =>
				limits.map((name) => `${role} ${name}`),
			);
			const readOnly = ["audit_reader", "audit_verifier"].map((role) => `${role} default_transaction_read_only`);
			expect(rows.map(({ role, name }) => `${role} ${name}`).sort()).toEqual([...expected, ...readOnly].sort());
		});

		test("what a later migration makes is nobody's until it says whose: functions, tables", async () => {
			await admin.query("BEGIN; SET LOCAL ROLE audit_owner");
			await admin.query(
				"CREATE FUNCTION audit.later() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE audit.later ()",
			);
			const { rows } = await admin.query(
				`SELECT r.rolname FROM pg_roles r
				 WHERE (r.rolname = ANY ($1) AND r.rolname <> 'audit_owner')
				   AND (has_function_privilege(r.oid, 'audit.later()', 'EXECUTE') OR has_table_privilege(r.oid, 'audit.later', 'SELECT'))`,
				[SERVICE_ROLES],
			);
			await admin.query("ROLLBACK");
			expect(rows).toEqual([]);
		});
	});

	test("a role that is nothing of the service's finds no way in, though it may connect", async () => {
		const name = `stranger_${randomBytes(6).toString("hex")}`;
		await admin.query(`CREATE ROLE ${name} LOGIN PASSWORD 'stranger'`);
		const asStranger = new URL(url);
		Object.assign(asStranger, { username: name, password: "stranger" });
		const stranger = new Client({ connectionString: asStranger.href });
		await stranger.connect();
		try {
			for (const sql of [
				...TABLES.map((line) => `SELECT FROM ${line.split(":")[0]}`),
				`SELECT FROM audit.${leaves[0]}`,
				"SELECT audit.lock_chain()",
				"SELECT audit.find_api_key('x')",
				"SET ROLE audit_reader",
				"CREATE TABLE public.mine ()",
				"CREATE TEMPORARY TABLE mine ()",
				"CREATE SCHEMA mine",
			]) {
				await expect(stranger.query(sql), sql).rejects.toMatchObject({ code: "42501" });
			}
			expect((await stranger.query("SELECT FROM pg_stats WHERE schemaname = 'audit'")).rowCount).toBe(0);
		} finally {
			await stranger.end();
		}
	});
});

test("a copy of a database forgets what was said of the database itself; migrate says it again", async () => {
	const copy = await createTestDatabase();
	const copied = new Client({ connectionString: copy.url });
	await copied.connect();
	try {
		expect(await grantsOf(copied)).toContain("everybody: TEMPORARY on the database");
		await migrate({ databaseUrl: copy.url, secret: testSecret() });
		expect(await grantsOf(copied)).toEqual([...GRANTS].sort());
	} finally {
		await copied.end();
		await copy.drop();
	}
});
