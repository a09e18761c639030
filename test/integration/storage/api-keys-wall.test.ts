import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TenantId } from "../../../src/event/event.ts";
import { inKeys } from "../../../src/storage/db.ts";
import { asRole } from "../../support/as-role.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { openWritePath, type WritePath } from "../../support/write-path.ts";

/** What the database itself forbids of API keys, whatever the code above it does. */

let database: TestDatabase;
let path: WritePath;
let admin: Client;

const KEYS = [
	["a", ["acme"]],
	["b", ["acme", "globex"]],
	["c", null],
] as const;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	await as("audit_writer", async (writer) => {
		for (const [id, tenants] of KEYS) {
			await writer.query("SELECT audit.create_api_key($1, 'hash', 'name', 'reader', $2, '{}', NULL, 'cli')", [
				id,
				tenants,
			]);
		}
	});
});

afterAll(async () => {
	await path.close();
	await admin.end();
	await database.drop();
});

const as = <T>(role: string, run: (client: Client) => Promise<T>) => asRole(database.url, role, run);

const IDS = "SELECT id FROM audit.api_keys ORDER BY id";

describe("the reader", () => {
	test("sees the keys all of whose tenants are set for the transaction", async () => {
		const seen = (...tenants: string[]) =>
			inKeys(path.db, new Set(tenants as TenantId[]), async (client) =>
				(await client.query<{ id: string }>(IDS)).rows.map(({ id }) => id).join(""),
			);
		expect(await seen("acme")).toBe("a");
		expect(await seen("globex")).toBe("");
		expect(await seen("globex", "acme", "initech")).toBe("ab");
		expect(await seen()).toBe("");
		const all = await inKeys(path.db, "all", async (client) => (await client.query(IDS)).rowCount);
		expect(all).toBe(3);
	});

	test("sees none without a scope, with that of events or letters, or on a connection that had one before", async () => {
		await as("audit_reader", async (reader) => {
			expect((await reader.query(IDS)).rowCount).toBe(0);
			await reader.query(
				"BEGIN; SELECT set_config('audit.tenant_id', 'acme', true), set_config('audit.dead_letters_of', '*', true)",
			);
			expect((await reader.query(IDS)).rowCount).toBe(0);
			await reader.query("SELECT set_config('audit.keys_of', '*', true)");
			expect((await reader.query(IDS)).rowCount).toBe(3);
			await reader.query("COMMIT");
			expect((await reader.query(IDS)).rowCount).toBe(0);
		});
	});
});

test("nobody reads a hash but by the one function, and nobody changes a key but by its functions", async () => {
	const statements = [
		"SELECT secret_hash FROM audit.api_keys",
		"SELECT * FROM audit.api_keys",
		"UPDATE audit.api_keys SET role = 'operator'",
		"DELETE FROM audit.api_keys",
		"INSERT INTO audit.api_keys (id, identity, secret_hash, name, role) VALUES ('x', 'x', '', 'x', 'operator')",
	];
	for (const role of ["audit_writer", "audit_reader", "audit_maintainer", "audit_verifier"]) {
		await as(role, async (client) => {
			await client.query("SET default_transaction_read_only = off");
			for (const sql of statements)
				await expect(client.query(sql), `${role}: ${sql}`).rejects.toMatchObject({ code: "42501" });
		});
	}
});

test("only the writer changes keys, and only the reader looks one up", async () => {
	const changes = [
		"SELECT audit.create_api_key('x', '', 'x', 'operator', NULL, '{}', NULL, 'x')",
		"SELECT audit.lock_api_keys('a')",
		"SELECT audit.rotate_api_key('a', 'x', '', NULL, now(), 'x')",
		"SELECT audit.revoke_api_key('a')",
		"SELECT audit.touch_api_keys('{a}', '{2026-01-01}')",
	];
	for (const role of ["audit_reader", "audit_maintainer", "audit_verifier"]) {
		await as(role, async (client) => {
			for (const sql of changes) await expect(client.query(sql)).rejects.toMatchObject({ code: "42501" });
		});
	}
	for (const role of ["audit_writer", "audit_maintainer", "audit_verifier"]) {
		await as(role, (client) =>
			expect(client.query("SELECT audit.find_api_key('a')")).rejects.toMatchObject({ code: "42501" }),
		);
	}
});

test("the owner itself can give a key no more than it has, take nothing back and remove none", async () => {
	await admin.query("BEGIN; SET LOCAL ROLE audit_owner");
	const refused = async (sql: string) => {
		await admin.query("SAVEPOINT before");
		await expect(admin.query(sql), sql).rejects.toMatchObject({ code: "42501" });
		await admin.query("ROLLBACK TO before");
	};
	for (const [column, value] of [
		["role", "'operator'"],
		["tenant_ids", "NULL"],
		["masked_units", "'{actor}'"],
		["secret_hash", "'other'"],
		["name", "'other'"],
		["identity", "'b'"],
		["created_by", "'other'"],
	]) {
		await refused(`UPDATE audit.api_keys SET ${column} = ${value} WHERE id = 'a'`);
	}
	await admin.query("UPDATE audit.api_keys SET expires_at = '2030-01-01', last_used_at = '2029-01-01' WHERE id = 'a'");
	await refused("UPDATE audit.api_keys SET expires_at = '2031-01-01' WHERE id = 'a'");
	await refused("UPDATE audit.api_keys SET expires_at = NULL WHERE id = 'a'");
	await refused("UPDATE audit.api_keys SET last_used_at = '2028-01-01' WHERE id = 'a'");
	await admin.query("UPDATE audit.api_keys SET revoked_at = now() WHERE id = 'a'");
	await refused("UPDATE audit.api_keys SET revoked_at = NULL WHERE id = 'a'");
	await refused("DELETE FROM audit.api_keys");
	await refused("TRUNCATE audit.api_keys");
	await admin.query("ROLLBACK");
});

test("a key of no tenant, which everybody would see, cannot be", async () => {
	await as("audit_writer", (writer) =>
		expect(
			writer.query("SELECT audit.create_api_key('x', '', 'x', 'reader', '{}', '{}', NULL, 'x')"),
		).rejects.toMatchObject({ code: "23514" }),
	);
});

test("uses are noted for many keys at once, never for an earlier time than is known, and by several at a time", async () => {
	const uses = (ids: string[], ...times: string[]) =>
		as("audit_writer", (writer) => writer.query("SELECT audit.touch_api_keys($1, $2)", [ids, times]));
	await uses(["b", "c", "nobody's"], "2026-01-02", "2026-01-02", "2026-01-02");
	await uses(["c", "b"], "2026-01-03", "2026-01-01");
	await Promise.all(
		Array.from({ length: 20 }, (_, i) =>
			uses(i % 2 ? ["a", "b", "c"] : ["c", "b", "a"], ...Array(3).fill("2026-01-04")),
		),
	);
	const { rows } = await admin.query("SELECT to_char(last_used_at, 'DD') AS day FROM audit.api_keys ORDER BY id");
	expect(rows).toEqual([{ day: "04" }, { day: "04" }, { day: "04" }]);
});
