import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTrail } from "../support/check-trail.ts";
import { runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, startOwnPostgres, type TestDatabase, testSecret } from "../support/services.ts";

/** Each command is a process of its own, and a busy machine takes a second or more to start one. */
const MANY_COMMANDS = { timeout: 120_000 };

let database: TestDatabase;
let service: ServiceProcess;

beforeAll(async () => {
	database = await createTestDatabase();
	// Tenants are not made by writing to them here.
	service = await startService({ DATABASE_URL: database.url });
	return async () => {
		await service.stop();
		await database.drop();
	};
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

/** As somebody who has the database at hand. */
const owner = (...args: string[]) => runCli(args, { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() });
const withKey = (key: string, ...args: string[]) => runCli(args, { AUDIT_URL: service.httpUrl, AUDIT_KEY: key });

async function makeKey(...args: string[]): Promise<string> {
	const { exitCode, stdout, stderr } = await owner("key", "create", ...args);
	expect(stderr).toBe("");
	expect(exitCode).toBe(0);
	return stdout.trim();
}

describe("keys", () => {
	test(
		"a list shows what a key may do, in every format, and never its secret or the hash of it",
		MANY_COMMANDS,
		async () => {
			const key = await makeKey("--role", "writer", "--tenant", "acme", "globex", "--name", "billing, =1+1");
			const [, id = "", secret = ""] = key.split("_");
			const admin = new Client({ connectionString: database.url });
			await admin.connect();
			const { rows } = await admin.query<{ hash: string }>(
				"SELECT encode(secret_hash, 'hex') AS hash FROM audit.api_keys WHERE id = $1",
				[id],
			);
			await admin.end();
			const hash = rows[0]?.hash ?? "";
			expect(hash).toHaveLength(64);
			for (const format of ["table", "json", "ndjson", "csv"]) {
				const { exitCode, stdout } = await owner("key", "list", "-o", format);
				expect(exitCode).toBe(0);
				for (const shown of [id, "writer", "acme", "globex", "billing"]) expect(stdout.toLowerCase()).toContain(shown);
				for (const hidden of [secret.slice(0, 64), hash, Buffer.from(hash, "hex").toString("base64")]) {
					expect(stdout).not.toContain(hidden);
				}
			}
			const { stdout } = await owner("key", "list", "-o", "json");
			expect(JSON.parse(stdout)).toContainEqual({
				id,
				name: "billing, =1+1",
				role: "ROLE_WRITER",
				tenant_ids: ["acme", "globex"],
				all_tenants: false,
				masked_units: [],
				identity: id,
				created_at: expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/),
				created_by: "cli",
				state: "active",
			});
		},
	);

	test("a revoked key is refused, and another one is not", MANY_COMMANDS, async () => {
		await owner("tenant", "create", "acme");
		const [revoked, kept] = [await makeKey(...reader("revoked")), await makeKey(...reader("kept"))];
		const { exitCode, stdout } = await owner("key", "revoke", revoked);
		expect(exitCode).toBe(0);
		expect(stdout).toMatch(/^revoked [0-9a-f]{12} \(revoked\); the service may take it for up to 30 seconds more\n$/);
		expect(await withKey(revoked, "query")).toMatchObject({
			exitCode: 1,
			stderr: expect.stringContaining("(unauthenticated)"),
		});
		expect(await withKey(kept, "query")).toMatchObject({ exitCode: 0 });
		const id = revoked.split("_")[1] ?? "";
		expect((await owner("key", "list")).stdout).not.toContain(id);
		expect((await owner("key", "list", "--all")).stdout).toMatch(new RegExp(`${id} +revoked `));
		expect(await owner("key", "revoke", id)).toMatchObject({
			exitCode: 0,
			stdout: `${id} (revoked) was revoked before\n`,
		});
		expect(await owner("key", "revoke", "0".repeat(12))).toMatchObject({
			exitCode: 1,
			stderr: expect.stringContaining("auditlog key list"),
		});
	});

	test("with an API key it goes through the service, as whoever that is", MANY_COMMANDS, async () => {
		await owner("tenant", "create", "acme");
		await owner("tenant", "create", "globex");
		const admin = await makeKey("--role", "tenant_admin", "--tenant", "acme", "--name", "Ada");
		const mine = await withKey(admin, "key", "create", "--role", "reader", "--name", "mine");
		expect(mine).toMatchObject({ exitCode: 0, stderr: "" });
		const ofGlobex = await makeKey("--role", "reader", "--tenant", "globex", "--name", "theirs");
		const [id, theirs] = [mine.stdout, ofGlobex].map((text) => text.split("_")[1] ?? "");
		const listed = await withKey(admin, "key", "list", "-o", "csv");
		expect(listed.stdout).toContain(id);
		expect(listed.stdout).not.toContain(theirs);
		for (const [line, what] of [
			[["create", "--role", "operator", "--name", "x"], "(permission_denied)"],
			[["create", "--role", "reader", "--tenant", "globex", "--name", "x"], "(not_found)"],
			[["create", "--role", "reader", "--all-tenants", "--name", "x"], "(permission_denied)"],
			[["revoke", theirs ?? ""], "(not_found)"],
			[["rotate", theirs ?? ""], "(not_found)"],
		] as const) {
			const { exitCode, stdout, stderr } = await withKey(admin, "key", ...line);
			expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
			expect(stderr).toContain(what);
		}
		const rotated = await withKey(admin, "key", "rotate", mine.stdout.trim(), "--overlap", "0", "--expires", "90d");
		expect(rotated).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(/^[0-9a-f]{12} works until 20.*Z\n$/) });
		const { stdout } = await withKey(admin, "key", "list", "--all", "-o", "csv");
		const states = stdout.split("\r\n").flatMap((line) => (line.includes(",mine,") ? [line.split(",")[5]] : []));
		expect(states).toEqual(["expires", "expired"]);
		expect(await withKey(rotated.stdout.trim(), "query")).toMatchObject({ exitCode: 0 });
		// Whoever had the database is not named; whoever had a key is.
		const told = await withKey(admin, "query", "--action", "audit.key.*", "--order", "oldest", "-o", "ndjson");
		type Told = { action: string; actor: object; primary_resource: { display_name: string } };
		const events = told.stdout
			.trimEnd()
			.split("\n")
			.map((line) => JSON.parse(line) as Told);
		const about = (name: string) => events.filter(({ primary_resource: { display_name } }) => display_name === name);
		expect(about("Ada")).toMatchObject([
			{
				action: "audit.key.created",
				actor: { type: "ACTOR_TYPE_SYSTEM", id: "auditlog", display_name: "auditlog key" },
			},
		]);
		const ada = { type: "ACTOR_TYPE_API_KEY", id: admin.split("_")[1], display_name: "Ada" };
		expect(about("mine")).toMatchObject([
			{ action: "audit.key.created", actor: ada },
			{ action: "audit.key.rotated", actor: ada },
		]);
	});

	test("how the command may be called: exit code 2", async () => {
		for (const [line, what] of [
			["create --role reader --name x", "give --tenant or --all-tenants"],
			["create --role reader --name x --tenant a --all-tenants", "give --tenant or --all-tenants"],
			["create --role reader --name x --tenant a --expires soon", "--expires must be a time"],
			["create --role boss --name x --tenant a", "Allowed choices are"],
			["create --role reader --name x --tenant a --mask facts", "Allowed choices are"],
			["rotate 0123456789ab --overlap soon", "--overlap must be how long"],
			["revoke nothing", "12 hexadecimal digits"],
		] as const) {
			const { exitCode, stderr } = await owner("key", ...line.split(" "));
			expect(stderr).toContain(what);
			expect(exitCode).toBe(2);
		}
	});

	test("a key is not made with another secret than the service's, which would refuse it", async () => {
		const args = ["key", "create", ...reader("useless")];
		const { exitCode, stdout, stderr } = await runCli(args, {
			DATABASE_URL: database.url,
			AUDIT_SECRET: "x".repeat(32),
		});
		expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
		expect(stderr).toContain("AUDIT_SECRET");
		expect((await owner("key", "list")).stdout).not.toContain("useless");
	});

	const reader = (name: string) => ["--role", "reader", "--tenant", "acme", "--name", name];
});

describe("tenants", () => {
	test(
		"one is made with the first event of its log, once, and can be written to from then on",
		MANY_COMMANDS,
		async () => {
			const key = await makeKey("--role", "operator", "--all-tenants", "--name", "all");
			const write = ["write", "-t", "initech", "--action", "user.login", "--actor", "x"];
			expect(await withKey(key, ...write)).toMatchObject({
				exitCode: 1,
				stderr: expect.stringContaining("auditlog tenant create <id>"),
			});
			expect(await owner("tenant", "create", "initech", "--name", "Initech")).toMatchObject({
				stdout: "created initech\n",
			});
			const again = await owner("tenant", "create", "initech", "--name", "Other");
			expect(again).toMatchObject({ exitCode: 0, stdout: "initech exists; nothing was changed\n" });
			// The service remembers for a moment that there was no such tenant, or it does not: either way it is there.
			expect(await withKey(key, ...write)).toMatchObject({ exitCode: 0 });
			const { stdout } = await withKey(key, "query", "-t", "initech", "--order", "oldest", "-o", "csv");
			const actions = stdout
				.trimEnd()
				.split("\r\n")
				.map((line) => line.split(",")[3]);
			expect(actions).toEqual(["action", "audit.log.created", "user.login"]);
			const listed = JSON.parse((await owner("tenant", "list", "-o", "json")).stdout) as { id: string; name: string }[];
			expect(listed.filter(({ id }) => id === "initech")).toMatchObject([{ name: "Initech" }]);
		},
	);

	test("an id or a name that cannot be one is refused: exit code 2", async () => {
		for (const name of ["", "x".repeat(1_025)]) {
			expect(await owner("tenant", "create", "hooli", "--name", name)).toMatchObject({
				exitCode: 2,
				stdout: "",
				stderr: expect.stringMatching(/^error: --name must not be /),
			});
		}
		expect(await owner("tenant", "create", "a b")).toMatchObject({
			exitCode: 2,
			stderr: expect.stringContaining("1 to 128"),
		});
	});
});

describe("a database that is not as it must be", () => {
	test("was never migrated, is not there, or cannot be reached: what to do is said", MANY_COMMANDS, async () => {
		const base = database.url.slice(0, database.url.lastIndexOf("/"));
		const listWith = (url: string) => runCli(["key", "list"], { DATABASE_URL: url, AUDIT_SECRET: testSecret() });
		const cases = [
			[`${base}/postgres`, "run `auditlog migrate`"],
			[`${base}/no_such_database`, "createdb"],
			["postgres://127.0.0.1:9/none", "is it running"],
			[base.replace(/:[^:@]*@/, ":wrong@"), "user and password in DATABASE_URL"],
		] as const;
		for (const [url, advice] of cases) {
			const { exitCode, stderr } = await listWith(url);
			expect(stderr).toContain(advice);
			expect(stderr).not.toContain('"level"');
			expect(exitCode).toBe(1);
		}
	});

	test("was never migrated: every command says so, also where no role was ever made", MANY_COMMANDS, async () => {
		const postgres = await startOwnPostgres();
		try {
			const base = database.url.slice(0, database.url.lastIndexOf("/"));
			for (const url of [postgres.url, `${base}/postgres`]) {
				const env = { DATABASE_URL: url, AUDIT_SECRET: testSecret() };
				for (const [line, expected] of [
					["verify", 2],
					["key create --role operator --all-tenants --name x", 1],
					["tenant create acme", 1],
				] as const) {
					const { exitCode, stdout, stderr } = await runCli(line.split(" "), env);
					expect(stderr, line).toContain("run `auditlog migrate` first");
					expect(stdout).toBe("");
					expect(exitCode).toBe(expected);
				}
			}
		} finally {
			await postgres.stop();
		}
	});
});
