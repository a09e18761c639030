import { text } from "node:stream/consumers";
import type pg from "pg";
import { Client } from "pg";
import { to as copyTo } from "pg-copy-streams";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditError } from "../../src/errors.ts";
import type { TenantId } from "../../src/event/event.ts";
import { inTenant } from "../../src/storage/db.ts";
import type { DeadLetter } from "../../src/storage/dead-letters.ts";
import { asRole } from "../support/as-role.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

/** What row-level security hides from a reader that forgets its tenant, names a wrong one, or asks in a roundabout way. */

let database: TestDatabase;
let path: WritePath;
let admin: Client;

const EVENTS_EACH = 40;
/** Stands in everything of tenant globex, and nowhere else. */
const HIDDEN = "h1dden-of-globex";

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	const events = [
		...Array.from({ length: EVENTS_EACH }, (_, i) => anEvent({ actor: { id: `user-${i}` }, description: "7" })),
		...Array.from({ length: EVENTS_EACH }, () =>
			anEvent({ tenantId: "globex", actor: { id: HIDDEN }, source: HIDDEN, description: HIDDEN }),
		),
	];
	await path.ingest.accept(events, aWriter(), { atomic: false });
	const letter = (seq: bigint, tenantId: string, message: string): DeadLetter => ({
		streamCreated: new Date("2026-01-31T12:00:00Z"),
		streamSeq: seq,
		position: 0,
		subject: "audit.events",
		headers: {},
		body: Buffer.from(message),
		isPart: false,
		publishedAt: 1_769_860_800_000_000n as DeadLetter["publishedAt"],
		tenantId: tenantId as TenantId,
		reason: "INVALID_EVENT",
		message,
		violations: [],
	});
	await path.appender.append([
		{ rows: [], atomic: false, deadLetters: [letter(1n, "acme", "seen"), letter(2n, "globex", HIDDEN)] },
	]);
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	await admin.query("ANALYZE");
});

afterAll(async () => {
	await path.close();
	await admin.end();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await database.drop();
});

const asReader = <T>(run: (reader: Client) => Promise<T>) => asRole(database.url, "audit_reader", run);

const TABLES = ["audit.events", "audit.tenants", "audit.dead_letters", "audit.dead_letter_actions"];

async function rowsSeen(reader: Client): Promise<number> {
	let seen = 0;
	for (const table of TABLES) seen += (await reader.query(`SELECT FROM ${table}`)).rowCount ?? 0;
	return seen;
}

describe("without a tenant nothing is seen", () => {
	test.each([
		["none was ever set", []],
		["it is empty", ["SET audit.tenant_id = ''", "SET audit.dead_letters_of = ''"]],
		["it was taken back", ["SET audit.tenant_id = 'acme'", "RESET audit.tenant_id"]],
		["everything was discarded", ["SET audit.tenant_id = 'acme'", "DISCARD ALL"]],
		["it was set for a statement alone", ["SELECT set_config('audit.tenant_id', 'acme', true)"]],
		["its transaction has committed", ["BEGIN", "SET LOCAL audit.tenant_id = 'acme'", "COMMIT"]],
		["its transaction was rolled back", ["BEGIN", "SET LOCAL audit.tenant_id = 'acme'", "ROLLBACK"]],
		["even set for the session, in one that was rolled back", ["BEGIN", "SET audit.tenant_id = 'acme'", "ROLLBACK"]],
		["its transaction has failed", ["BEGIN", "SET LOCAL audit.tenant_id = 'acme'", "SELECT 1 / 0", "ROLLBACK"]],
		["it was chained to another", ["BEGIN", "SET LOCAL audit.tenant_id = 'acme'", "COMMIT AND CHAIN", "COMMIT"]],
		["a savepoint took it back", ["BEGIN", "SAVEPOINT s", "SET LOCAL audit.tenant_id = 'acme'", "ROLLBACK TO s"]],
		["it nearly is one", ["SET audit.tenant_id = 'ACME'", "SET audit.dead_letters_of = 'ACME'"]],
		["it has a space", ["SET audit.tenant_id = 'acme '", "SET audit.dead_letters_of = 'acme ,globe'"]],
		["it is a list", ["SET audit.tenant_id = 'acme,globex'"]],
		["it is a pattern", ["SET audit.tenant_id = '%'", "SET audit.dead_letters_of = '%'"]],
		["it is what means every letter", ["SET audit.tenant_id = '*'"]],
		[
			"it is a condition",
			[`SET audit.tenant_id = 'x'' OR ''1''=''1'`, `SET audit.dead_letters_of = 'x'' OR ''1''=''1'`],
		],
		["it has another name", ["SET audit.tenant = 'acme'", "SET auditx.tenant_id = 'acme'"]],
	])("%s", async (_, statements) => {
		await asReader(async (reader) => {
			for (const sql of statements) {
				if (sql === "SELECT 1 / 0") await expect(reader.query(sql)).rejects.toMatchObject({ code: "22012" });
				else await reader.query(sql);
			}
			expect(await rowsSeen(reader)).toBe(0);
		});
	});

	test("with one there is something to see", async () => {
		await asReader(async (reader) => {
			await reader.query("SET audit.tenant_id = 'acme'; SET audit.dead_letters_of = 'acme'");
			// The log's first event, the tenant, the letter.
			expect(await rowsSeen(reader)).toBe(EVENTS_EACH + 1 + 1 + 1);
		});
	});

	test("asked not to apply the policies, PostgreSQL refuses rather than to show every row", async () => {
		await asReader(async (reader) => {
			await reader.query("SET row_security = off");
			for (const table of TABLES)
				await expect(reader.query(`SELECT FROM ${table}`)).rejects.toMatchObject({ code: "42501" });
		});
	});
});

describe("statements and cursors do not carry a tenant over", () => {
	test.each(["force_generic_plan", "force_custom_plan", "auto"])("a prepared statement, %s", async (mode) => {
		await asReader(async (reader) => {
			await reader.query(`SET plan_cache_mode = ${mode}`);
			const ask = async () => {
				const { rows } = await reader.query({
					name: "which",
					text: "SELECT DISTINCT tenant_id FROM audit.events WHERE recorded_at > $1",
					values: [new Date(0)],
				});
				return rows.map(({ tenant_id }) => tenant_id);
			};
			for (let i = 0; i < 8; i += 1) {
				for (const tenant of ["acme", "globex", "initech"]) {
					await reader.query("BEGIN");
					await reader.query("SELECT set_config('audit.tenant_id', $1, true)", [tenant]);
					expect(await ask()).toEqual(tenant === "initech" ? [] : [tenant]);
					await reader.query("COMMIT");
					expect(await ask()).toEqual([]);
				}
			}
		});
	});

	test("a cursor ends with its transaction", async () => {
		await asReader(async (reader) => {
			await reader.query("BEGIN; SET LOCAL audit.tenant_id = 'acme'; DECLARE c CURSOR FOR SELECT * FROM audit.events");
			expect((await reader.query("FETCH 3 FROM c")).rowCount).toBe(3);
			await reader.query("COMMIT");
			await expect(reader.query("FETCH 3 FROM c")).rejects.toMatchObject({ code: "34000" });
		});
	});

	test("what the service runs in a tenant's transaction can neither write nor be made to", async () => {
		for (const sql of [
			"INSERT INTO audit.vocabulary (tenant_id) SELECT tenant_id FROM audit.events",
			"INSERT INTO audit.events (tenant_id) SELECT tenant_id FROM audit.events",
			"CREATE TEMPORARY TABLE mine AS SELECT * FROM audit.events",
			"SET TRANSACTION READ WRITE",
		]) {
			const run = inTenant(path.db, "acme" as TenantId, (client) => client.query(sql));
			const refusal: unknown = await run.catch((error: unknown) => error);
			const { code } =
				refusal instanceof AuditError ? (refusal.cause as pg.DatabaseError) : (refusal as pg.DatabaseError);
			// Read-only transaction; too late to make it another; no right to.
			expect(["25006", "25001", "42501"], sql).toContain(code);
		}
	});
});

/** Each runs with the tenant acme set. */
async function inAcme<T>(run: (reader: Client) => Promise<T>): Promise<T> {
	return await asReader(async (reader) => {
		await reader.query("SET audit.tenant_id = 'acme'; SET audit.dead_letters_of = 'acme'");
		return await run(reader);
	});
}

describe("asked in a roundabout way, only the tenant's own rows answer", () => {
	test.each([
		"SELECT * FROM audit.events",
		"SELECT * FROM audit.tenants, audit.events, audit.dead_letters",
		"SELECT * FROM audit.events TABLESAMPLE SYSTEM (100)",
		"SELECT e, ctid, tableoid, xmin FROM audit.events e",
		"SELECT max(u_description), min(tenant_id), string_agg(actor_id, ',') FROM audit.events",
		"SELECT * FROM audit.events WHERE tenant_id = 'globex' OR true OR tenant_id <> 'acme'",
		"SELECT * FROM audit.events WHERE ctid = ANY (SELECT format('(%s,%s)', p, i)::tid FROM generate_series(0, 9) p, generate_series(1, 90) i)",
		"SELECT (SELECT string_agg(t.id, ',') FROM audit.tenants t) FROM audit.events",
		"WITH RECURSIVE r AS (SELECT tenant_id FROM audit.events UNION SELECT tenant_id FROM audit.events) SELECT * FROM r",
		"SELECT * FROM audit.events e FULL JOIN audit.tenants t ON t.id = e.source",
		"SELECT query_to_xml('SELECT * FROM audit.events', true, false, '')",
		"SELECT schema_to_xml('audit', true, false, '')",
		"SELECT database_to_xml(true, false, '')",
		"SELECT row_to_json(l), encode(body, 'escape') FROM audit.dead_letters l",
		"SELECT * FROM pg_stats WHERE schemaname = 'audit'",
		"SELECT array_agg(tenant_id) OVER (), lag(actor_id) OVER (ORDER BY tenant_id) FROM audit.events",
	])("%s", async (sql) => {
		const { rows, rowCount } = await inAcme((reader) => reader.query(sql));
		if (!sql.includes("pg_stats")) expect(rowCount).toBeGreaterThan(0);
		expect(JSON.stringify(rows)).not.toContain(HIDDEN);
		expect(JSON.stringify(rows).replaceAll("globex'", "")).not.toContain("globex");
	});

	test("COPY writes the tenant's rows", async () => {
		await inAcme(async (reader) => {
			const copied = await text(reader.query(copyTo("COPY (SELECT * FROM audit.events) TO STDOUT")));
			expect(copied.split("\n").length - 1).toBe(EVENTS_EACH + 1);
			expect(copied).not.toContain("globex");
		});
	});

	test.each([
		["1 / (CASE WHEN tenant_id = 'globex' THEN 0 ELSE 1 END) = 1"],
		["(CASE WHEN tenant_id = 'globex' THEN actor_id ELSE '1' END)::int = 1"],
		["(u_description::jsonb #>> '{}')::int = 7 OR tenant_id = 'acme'"],
		["(CASE WHEN tenant_id = 'globex' THEN u_description ELSE '::1' END)::inet IS NOT NULL"],
		["'x' ~ (CASE WHEN tenant_id = 'globex' THEN '(' ELSE 'x' END)"],
		["xmlparse(DOCUMENT CASE WHEN tenant_id = 'globex' THEN source ELSE '<a/>' END) IS NOT NULL"],
		["to_date(CASE WHEN tenant_id = 'globex' THEN source ELSE '2026' END, 'YYYY') > '2000-01-01'"],
		["decode(CASE WHEN tenant_id = 'globex' THEN source ELSE '00' END, 'hex') IS NOT NULL"],
	])("no error tells of a hidden row: WHERE %s", async (condition) => {
		await inAcme(async (reader) => {
			// A condition on hidden rows would fail, and its error quote them.
			const { rowCount } = await reader.query(`SELECT FROM audit.events WHERE kind = 1 AND (${condition})`);
			expect(rowCount).toBe(EVENTS_EACH);
		});
		// What it would have told: whoever sees every row meets the error.
		await expect(
			admin.query(`SELECT FROM audit.events WHERE kind = 1 AND tenant_id = 'globex' AND (${condition})`),
		).rejects.toThrow();
	});

	test("a function of the reader's own, cheaper than the policy, is asked of the tenant's rows alone", async () => {
		// Only where temporary objects are allowed at all: migrations forbid them, a copy of a database forgets it.
		await admin.query(`GRANT TEMPORARY ON DATABASE ${database.name} TO PUBLIC`);
		await inAcme(async (reader) => {
			await reader.query("SET default_transaction_read_only = off");
			await reader.query(`CREATE FUNCTION pg_temp.tell(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001
				AS $$ BEGIN RAISE NOTICE 'told: %', what; RETURN true; END $$`);
			const told: (string | undefined)[] = [];
			reader.on("notice", ({ message }) => told.push(message));
			for (const column of ["tenant_id", "u_description", "source"])
				await reader.query(
					`SELECT FROM audit.events WHERE pg_temp.tell(${column}) AND pg_temp.tell(${column} || actor_id)`,
				);
			for (const column of ["id", "name"])
				await reader.query(`SELECT FROM audit.tenants WHERE pg_temp.tell(${column})`);
			await reader.query("SELECT FROM audit.dead_letters WHERE pg_temp.tell(message)");
			expect(told.length).toBeGreaterThan(EVENTS_EACH);
			expect(told.filter((line) => /globex/.test(line ?? ""))).toEqual([]);
		});
	});
});
