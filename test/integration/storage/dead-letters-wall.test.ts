import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TenantId } from "../../../src/event/event.ts";
import { inLetters } from "../../../src/storage/db.ts";
import type { DeadLetter } from "../../../src/storage/dead-letters.ts";
import { asRole } from "../../support/as-role.ts";
import { checkTrail } from "../../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { openWritePath, type WritePath } from "../../support/write-path.ts";

/** What the database itself forbids of dead letters, whatever the code above it does. */

let database: TestDatabase;
let path: WritePath;
let admin: Client;

const CREATED = new Date("2026-01-31T12:00:00Z");

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	const letter = (seq: number, tenantId: string | undefined): DeadLetter => ({
		streamCreated: CREATED,
		streamSeq: BigInt(seq),
		position: 0,
		subject: "audit.events",
		headers: {},
		body: Uint8Array.of(1, 2, 3),
		isPart: false,
		publishedAt: 1_769_860_800_000_000n as DeadLetter["publishedAt"],
		tenantId: tenantId as TenantId | undefined,
		reason: "INVALID_EVENT",
		message: "as it was",
		violations: [],
	});
	const deadLetters = [letter(1, "acme"), letter(2, "globex"), letter(3, undefined)];
	await path.appender.append([{ rows: [], atomic: false, deadLetters }]);
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	await as("audit_writer", (writer) =>
		writer.query("SELECT audit.settle_dead_letter($1, 2, 0, 'DISCARDED', 'key', 'why', NULL, '[]')", [CREATED]),
	);
});

afterAll(async () => {
	await path.close();
	await admin.end();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await database.drop();
});

const as = <T>(role: string, run: (client: Client) => Promise<T>) => asRole(database.url, role, run);

const LETTERS = "SELECT tenant_id FROM audit.dead_letters ORDER BY stream_seq";
const ACTIONS = "SELECT stream_seq FROM audit.dead_letter_actions";

describe("the reader", () => {
	test("sees the letters and what was done with them of the tenants set for the transaction", async () => {
		const seen = (scope: ReadonlySet<TenantId> | "all") =>
			inLetters(path.db, scope, async (client) => [
				(await client.query<{ tenant_id: string }>(LETTERS)).rows.map(({ tenant_id }) => tenant_id),
				(await client.query(ACTIONS)).rowCount,
			]);
		expect(await seen(new Set(["acme" as TenantId]))).toEqual([["acme"], 0]);
		expect(await seen(new Set(["globex", "acme"] as TenantId[]))).toEqual([["acme", "globex"], 1]);
		expect(await seen(new Set())).toEqual([[], 0]);
		expect(await seen("all")).toEqual([["acme", "globex", null], 1]);
	});

	test("sees none without a scope, with that of a tenant's events, or on a connection that had one before", async () => {
		await as("audit_reader", async (reader) => {
			expect((await reader.query(LETTERS)).rowCount).toBe(0);
			await reader.query("BEGIN; SELECT set_config('audit.tenant_id', 'acme', true)");
			expect((await reader.query(LETTERS)).rowCount).toBe(0);
			await reader.query("SELECT set_config('audit.dead_letters_of', '*', true)");
			expect((await reader.query(LETTERS)).rowCount).toBe(3);
			await reader.query("COMMIT");
			expect((await reader.query(LETTERS)).rowCount).toBe(0);
			expect((await reader.query(ACTIONS)).rowCount).toBe(0);
		});
	});
});

test("the writer can read no letter's content, rewrite none, and record what was done by its function alone", async () => {
	await as("audit_writer", async (writer) => {
		for (const sql of [
			"SELECT body FROM audit.dead_letters",
			"SELECT * FROM audit.dead_letter_actions",
			"UPDATE audit.dead_letters SET body = ''",
			"SELECT stream_seq FROM audit.dead_letters FOR UPDATE",
			"DELETE FROM audit.dead_letters",
			"INSERT INTO audit.dead_letter_actions (stream_created, stream_seq, position, state, key_id) VALUES (now(), 1, 0, 'REDRIVEN', 'k')",
			"DELETE FROM audit.dead_letter_actions",
		]) {
			await expect(writer.query(sql)).rejects.toMatchObject({ code: "42501" });
		}
	});
});

test("a letter is settled once, in a way that says enough, and only if it is there", async () => {
	await as("audit_writer", async (writer) => {
		const settle = (seq: number, rest: string) =>
			writer.query(`SELECT audit.settle_dead_letter($1, ${seq}, 0, ${rest})`, [CREATED]);
		// Unique, foreign key, check.
		await expect(settle(2, "'REDRIVEN', 'key', NULL, 1, '[1]'")).rejects.toMatchObject({ code: "23505" });
		await expect(settle(9, "'REDRIVEN', 'key', NULL, 1, '[1]'")).rejects.toMatchObject({ code: "23503" });
		for (const rest of [
			"'OPEN', 'key', NULL, 1, '[1]'",
			"'DISCARDED', 'key', '', NULL, '[]'",
			"'DISCARDED', 'key', NULL, NULL, '[]'",
			"'REDRIVEN', 'key', NULL, NULL, '[1]'",
			"'REDRIVEN', 'key', NULL, 1, '[]'",
		]) {
			await expect(settle(1, rest)).rejects.toMatchObject({ code: "23514" });
		}
	});
});

test("the owner itself is told why it cannot change or remove letters and what was done with them", async () => {
	await admin.query("SET ROLE audit_owner");
	for (const table of ["audit.dead_letters", "audit.dead_letter_actions"]) {
		for (const sql of [`UPDATE ${table} SET position = 0`, `DELETE FROM ${table}`, `TRUNCATE ${table} CASCADE`]) {
			await expect(admin.query(sql)).rejects.toThrow(/audit records are immutable/);
		}
	}
	await admin.query("RESET ROLE");
});
