import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/storage/migrate.ts";
import { runCli } from "../support/run-cli.ts";
import { startService } from "../support/service-process.ts";
import {
	createTestDatabase,
	ownDirectory,
	startOwnPostgres,
	type TestDatabase,
	testSecret,
	waitFor,
} from "../support/services.ts";

/** `migrate` and `serve` are run apart, perhaps of two versions: each says what the other has to do. */

const settings = (databaseUrl: string) => ({
	DATABASE_URL: databaseUrl,
	AUDIT_SECRET: testSecret(),
	HTTP_PORT: "0",
	GRPC_PORT: "0",
});

describe("serve refuses", () => {
	let database: TestDatabase;
	let admin: Client;

	beforeAll(async () => {
		database = await createTestDatabase();
		admin = new Client({ connectionString: database.url });
		await admin.connect();
	});
	afterAll(async () => {
		await admin.end();
		await database.drop();
	});

	/** What a start on this database says; it must end by itself, with exit code 1. */
	async function refusal(url = database.url, env: Record<string, string> = {}): Promise<string> {
		const { exitCode, stderr } = await runCli(["serve"], { ...settings(url), ...env });
		expect(exitCode).toBe(1);
		return stderr;
	}

	test("a database that was never migrated", async () => {
		const empty = `${database.name}_empty`;
		await admin.query(`CREATE DATABASE ${empty}`);
		try {
			expect(await refusal(database.url.replace(database.name, empty))).toMatch(
				/^error: this database has no audit log yet: run `auditlog migrate`/,
			);
		} finally {
			await admin.query(`DROP DATABASE ${empty} WITH (FORCE)`);
		}
	});

	test("a database that lacks a migration of this version, and names it", async () => {
		await admin.query("DELETE FROM audit_migrations.kysely_migration WHERE name = '0002_events'");
		expect(await refusal()).toMatch(/^error: this database lacks 0002_events: run `auditlog migrate`/);
		await admin.query("INSERT INTO audit_migrations.kysely_migration VALUES ('0002_events', 'now')");
	});

	test("a database that was migrated before the service could see its version", async () => {
		await admin.query("REVOKE ALL ON SCHEMA audit_migrations FROM audit_writer");
		expect(await refusal()).toMatch(/^error: this database was migrated by an older version: run `auditlog migrate`/);
		await admin.query("GRANT USAGE ON SCHEMA audit_migrations TO audit_writer");
	});

	test("a database that a newer version has migrated; migrate refuses it, too, and changes nothing", async () => {
		await admin.query("INSERT INTO audit_migrations.kysely_migration VALUES ('9999_of_tomorrow', 'now')");
		const newer = /^error: a newer version of auditlog has migrated this database \(9999_of_tomorrow\)/;
		expect(await refusal()).toMatch(newer);
		const migrated = await runCli(["migrate"], settings(database.url));
		expect(migrated).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringMatching(newer) });
		await admin.query("DELETE FROM audit_migrations.kysely_migration WHERE name = '9999_of_tomorrow'");
	});

	test("a database whose roles have another secret's passwords", async () => {
		expect(await refusal(database.url, { AUDIT_SECRET: "another secret, also of 32 characters" })).toMatch(
			/^error: PostgreSQL refused the role audit_writer: run `auditlog migrate`/,
		);
	});
});

test("a database that is away at the start is waited for, and asked for its version when it comes", async () => {
	const dataDir = ownDirectory("postgres");
	const first = await startOwnPostgres({ dataDir });
	await first.stop();
	const service = await startService({ DATABASE_URL: first.url });
	const readiness = async () => {
		const response = await fetch(`${service.httpUrl}/readyz`);
		return { status: response.status, ...((await response.json()) as { degraded: string[] }) };
	};
	expect(await readiness()).toMatchObject({ status: 503, degraded: expect.arrayContaining(["database: away"]) });
	const health = () => runCli(["health", "--url", service.httpUrl]);
	expect(await health()).toMatchObject({
		exitCode: 1,
		stdout: expect.stringMatching(/^not ready\n {2}database: away\n/),
	});

	const postgres = await startOwnPostgres({ dataDir, port: first.port });
	try {
		await waitFor(async () => (await readiness()).degraded.some((text) => /^database: .*auditlog migrate/.test(text)));
		await migrate({ databaseUrl: postgres.url, secret: testSecret() });
		await waitFor(async () => (await readiness()).status === 200);
		expect(await health()).toMatchObject({ exitCode: 0, stdout: "ready\n  nats: not configured\n" });
	} finally {
		await service.stop();
		await postgres.stop();
	}
});
