import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { deriveKeys } from "../../../src/auth/secret.ts";
import { type Database, openDatabase } from "../../../src/storage/db.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";

/** A pooler between the service and PostgreSQL refuses connections that ask for more than these. */
const POOLERS_ALLOW = ["application_name", "client_encoding", "DateStyle", "standard_conforming_strings", "TimeZone"];

let database: TestDatabase;
let db: Database;

beforeAll(async () => {
	database = await createTestDatabase();
	const keys = deriveKeys(testSecret());
	db = openDatabase({ databaseUrl: database.url, keys, logger: pino({ level: "silent" }) });
});
afterAll(async () => {
	await db.close();
	await database.drop();
});

test.each([
	["writer", "10s"],
	["reader", "20s"],
	["maintainer", "10s"],
] as const)(
	"the %s's time limits are its role's: its connections ask for nothing that a pooler refuses",
	async (role, limit) => {
		const { rows: asked } = await db[role].query("SELECT name FROM pg_settings WHERE source = 'client'");
		expect(asked.map(({ name }) => name).filter((name) => !POOLERS_ALLOW.includes(name))).toEqual([]);
		const { rows } = await db[role].query(
			`SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock,
		        current_setting('idle_in_transaction_session_timeout') AS idle`,
		);
		expect(rows).toEqual([{ statement: limit, lock: "5s", idle: "15s" }]);
	},
);
