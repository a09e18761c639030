import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { runCli } from "../support/run-cli.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath } from "../support/write-path.ts";

let database: TestDatabase;

beforeEach(async () => {
	database = await createTestDatabase();
	const path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	await path.ingest.accept([anEvent({ description: "as it was" })], aWriter(), { atomic: false });
	await path.close();
});
afterEach(() => database.drop());

const verify = (...args: string[]) =>
	runCli(["verify", ...args], { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() });

test("a trail as it was written is proven: exit code 0, and what that does not show is said", async () => {
	const { exitCode, stdout, stderr } = await verify();
	expect(stdout).toMatch(/^proven: 2 events in \d batch(es)? of 1 tenant\n/);
	expect(stdout).toContain("Not shown by this:");
	expect(stderr).toBe("");
	expect(exitCode).toBe(0);
});

test("tampering: exit code 1, and tenant, batch, place and event are named", async () => {
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	// A superuser can switch the triggers off.
	await admin.query("SET session_replication_role = replica");
	const { rows } = await admin.query<{ id: string; ord: number; batch_id: string }>(
		`UPDATE audit.events SET u_description = '"as it never was"' WHERE kind = 1 RETURNING id, ord, batch_id`,
	);
	await admin.end();
	const [victim] = rows;

	const { exitCode, stdout } = await verify();
	expect(exitCode).toBe(1);
	expect(stdout).toMatch(/^NOT PROVEN: \d+ problems? in 2 events/);
	expect(stdout).toMatch(
		new RegExp(`tenant acme, batch \\d+, place ${victim?.ord}, event ${victim?.id}: the event was altered`),
	);

	const json = await verify("-o", "json");
	expect(json.exitCode).toBe(1);
	const problems = expect.arrayContaining([
		expect.objectContaining({
			tenant_id: "acme",
			event_id: victim?.id,
			ord: victim?.ord,
			batch_id: victim?.batch_id,
			message: expect.stringContaining("altered"),
		}),
	]);
	expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, problems });
});
