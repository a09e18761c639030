import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import { checkTrail } from "../support/check-trail.ts";
import { runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, startOwnNats, type TestDatabase, testSecret } from "../support/services.ts";

const REAL_FILE = join(import.meta.dirname, "../fixtures/cloudtrail.ndjson.gz");
const RECORDS = 2900;

let database: TestDatabase;
let nats: Nats;
let service: ServiceProcess;
let env: Record<string, string>;

beforeAll(async () => {
	[database, nats] = await Promise.all([createTestDatabase(), startOwnNats()]);
	const settings = { DATABASE_URL: database.url, NATS_URL: nats.url };
	service = await startService({ ...settings, AUDIT_AUTO_CREATE_TENANTS: "true" });
	const create = ["key", "create", "--role", "operator", "--all-tenants", "--name", "test"];
	const { stdout } = await runCli(create, { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() });
	env = { AUDIT_URL: service.httpUrl, AUDIT_KEY: stdout.trim(), NATS_URL: nats.url };
	return async () => {
		await service.stop();
		await nats.stop();
		await database.drop();
	};
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

async function importFile(path: string, tenant: string, via: "rpc" | "nats", stdin?: Buffer | string) {
	const args = ["import", "--format", "cloudtrail", "--tenant", tenant, "--via", via, "-o", "json", path];
	const { exitCode, stdout, stderr } = await runCli(args, env, stdin);
	return { exitCode, stderr, counts: stdout ? (JSON.parse(stdout) as Record<string, unknown>) : undefined };
}

/** Every imported event of a tenant, oldest first, without what the service adds. */
async function importedEvents(tenant: string) {
	const args = ["query", "-t", tenant, "--until", "2024-01-01", "--order", "oldest", "-n", "100000", "-o", "ndjson"];
	const { stdout } = await runCli(args, env);
	return stdout
		.split("\n")
		.filter((line) => line !== "")
		.map((line) => {
			const { recorded_at: _, integrity: __, tenant_id: ___, ...event } = JSON.parse(line) as Record<string, unknown>;
			return event as { id: string } & Record<string, unknown>;
		});
}

describe("importing the real file", () => {
	test("by RPC: every record is stored once, and by NATS afterwards none is added", async () => {
		const first = await importFile(REAL_FILE, "rpc-first", "rpc");
		expect(first.stderr).toBe("");
		expect(first.counts).toEqual({ read: RECORDS, stored: RECORDS, duplicates: 0, rejected: 0 });
		expect(first.exitCode).toBe(0);
		const again = await importFile(REAL_FILE, "rpc-first", "rpc");
		expect(again.counts).toEqual({ read: RECORDS, stored: 0, duplicates: RECORDS, rejected: 0 });
		const byNats = await importFile(REAL_FILE, "rpc-first", "nats");
		expect(byNats.counts).toEqual({ read: RECORDS, acknowledged: RECORDS, repeated: 0, rejected: 0, arrived: true });
		expect(await importedEvents("rpc-first")).toHaveLength(RECORDS);
	});

	test("by NATS the result is the same, and by RPC afterwards none is added", async () => {
		const first = await importFile(REAL_FILE, "nats-first", "nats");
		expect(first.counts).toEqual({ read: RECORDS, acknowledged: RECORDS, repeated: 0, rejected: 0, arrived: true });
		expect(first.exitCode).toBe(0);
		const byNats = await importedEvents("nats-first");
		expect(byNats).toHaveLength(RECORDS);
		expect(byNats).toEqual(await importedEvents("rpc-first"));
		const byRpc = await importFile(REAL_FILE, "nats-first", "rpc");
		expect(byRpc.counts).toEqual({ read: RECORDS, stored: 0, duplicates: RECORDS, rejected: 0 });
	});

	test("published twice, JetStream itself knows the messages again", async () => {
		await importFile(REAL_FILE, "twice", "nats");
		const { counts } = await importFile(REAL_FILE, "twice", "nats");
		expect(counts).toEqual({ read: RECORDS, acknowledged: RECORDS, repeated: RECORDS, rejected: 0, arrived: true });
	});

	test("a tenant whose id is no single token of a subject is imported by NATS as well", async () => {
		const { counts } = await importFile(REAL_FILE, "acme.example", "nats");
		expect(counts).toMatchObject({ acknowledged: RECORDS, arrived: true });
		expect(await importedEvents("acme.example")).toHaveLength(RECORDS);
	});
});

describe("importing what is not as it should be", () => {
	const lines = gunzipSync(readFileSync(REAL_FILE)).toString("utf8").trim().split("\n").slice(0, 4);
	const [one = "", two = "", three = "", four = ""] = lines;

	test.each(["rpc", "nats"] as const)("by %s bad records are named by line and the rest goes on", async (via) => {
		const early = JSON.stringify({ ...JSON.parse(three), eventTime: "2001-01-01T00:00:00Z" });
		const surrogate = four.replace('"eventName":', '"x":"\\ud800","eventName":');
		const input = [one, "{broken", two, "{}", early, surrogate, `{"a":1,"a":2}`].join("\n");
		const { exitCode, stderr, counts } = await importFile("-", `bad-${via}`, via, input);
		expect(stderr.split("\n")).toEqual([
			expect.stringMatching(/^line 2: is not valid JSON/),
			expect.stringMatching(/^line 4: eventSource is missing/),
			expect.stringMatching(/^line 5: occurred_at: must not lie more than 10 years back/),
			expect.stringMatching(/^line 6: metadata.x: must be well-formed Unicode/),
			expect.stringMatching(/^line 7: has a name twice/),
			"",
		]);
		expect(counts).toMatchObject({ read: 7, rejected: 5 });
		expect(exitCode).toBe(1);
		expect(await importedEvents(`bad-${via}`)).toHaveLength(2);
	});

	test("a record that says something else under the same id is refused and named", async () => {
		await importFile("-", "conflict", "rpc", one);
		const changed = JSON.stringify({ ...JSON.parse(one), errorCode: "AccessDenied" });
		const { exitCode, stderr, counts } = await importFile("-", "conflict", "rpc", `${two}\n${changed}`);
		expect(stderr).toMatch(/^line 2: /);
		expect(counts).toEqual({ read: 2, stored: 1, duplicates: 0, rejected: 1 });
		expect(exitCode).toBe(1);
	});

	test("a file that is cut off is imported up to the cut, and that is said", async () => {
		const whole = readFileSync(REAL_FILE);
		const { exitCode, stderr, counts } = await importFile("-", "cut", "rpc", whole.subarray(0, whole.length / 2));
		expect(stderr).toContain("the file: cannot be read to its end");
		expect(exitCode).toBe(1);
		const stored = Number(counts?.stored);
		expect(stored).toBeGreaterThan(500);
		expect(counts).toMatchObject({ read: stored + 1, rejected: 1 });
	});

	test('the form AWS delivers, {"Records": […]}, gives the same events', async () => {
		const path = `${ownDirectory("records")}.json`;
		writeFileSync(path, JSON.stringify({ Records: lines.map((line) => JSON.parse(line)) }, undefined, 2));
		await importFile(path, "records", "rpc");
		await importFile("-", "lines", "rpc", lines.join("\n"));
		const events = await importedEvents("records");
		expect(events).toHaveLength(4);
		expect(events).toEqual(await importedEvents("lines"));
	});

	test("a key that may not write ends the import at once", async () => {
		const create = ["key", "create", "--role", "writer", "--tenant", "acme", "--name", "test"];
		const { stdout } = await runCli(create, { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() });
		const args = ["import", "--format", "cloudtrail", "--tenant", "not-acme", REAL_FILE];
		const { exitCode, stderr } = await runCli(args, { ...env, AUDIT_KEY: stdout.trim() });
		expect(exitCode).toBe(1);
		expect(stderr).toContain("(not_found)");
		expect(stderr.split("\n").length).toBeLessThan(6);
	});
});
