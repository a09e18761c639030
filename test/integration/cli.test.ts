import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTrail } from "../support/check-trail.ts";
import { runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, type TestDatabase, testSecret } from "../support/services.ts";

let database: TestDatabase;
let service: ServiceProcess;
/** What `auditlog` needs to reach the service. */
let env: Record<string, string>;

beforeAll(async () => {
	database = await createTestDatabase();
	service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	env = { AUDIT_URL: service.httpUrl, AUDIT_KEY: await createKey("operator", "--all-tenants") };
	return async () => {
		await service.stop();
		await database.drop();
	};
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

async function createKey(role: string, ...tenants: string[]): Promise<string> {
	const args = ["key", "create", "--role", role, "--name", "test", ...tenants];
	const { exitCode, stdout } = await runCli(args, { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() });
	expect(exitCode).toBe(0);
	return stdout.trim();
}

async function writtenId(...args: string[]): Promise<string> {
	const { exitCode, stdout, stderr } = await runCli(["write", "-o", "json", ...args], env);
	expect(stderr).toBe("");
	expect(exitCode).toBe(0);
	return (JSON.parse(stdout) as { event_id: string }).event_id;
}

describe("writing and reading back", () => {
	test("an event written from options is found by query and get, as it was described", async () => {
		const what = ["--tenant", "acme", "--action", "invoice.approve", "--category", "billing", "--severity", "notice"];
		const who = ["--actor", "user-123", "--actor-type", "user", "--actor-name", "Jane Doe"];
		const things = ["--resource", "invoice:4711", "--related", "owner=user:user-7"];
		const id = await writtenId(...what, ...who, ...things, "--metadata", '{"b":1,"a":[null]}');
		const got = await runCli(["get", id, "--tenant", "acme"], env);
		expect(JSON.parse(got.stdout)).toMatchObject({
			id,
			tenant_id: "acme",
			action: "invoice.approve",
			occurred_at: expect.stringMatching(/\.\d{6}Z$/),
			category: "CATEGORY_BILLING",
			actor: { type: "ACTOR_TYPE_USER", id: "user-123", display_name: "Jane Doe" },
			primary_resource: { type: "invoice", id: "4711" },
			related_resources: [{ type: "user", id: "user-7", role: "owner" }],
			metadata: { a: [null], b: 1 },
		});
		const found = await runCli(
			["query", "--tenant", "acme", "--since", "1h", "--action", "invoice.*", "-o", "ndjson"],
			env,
		);
		expect(
			found.stdout
				.trim()
				.split("\n")
				.map((line) => JSON.parse(line)),
		).toEqual([JSON.parse(got.stdout)]);
		const table = await runCli(["query", "--tenant", "acme", "--resource", "invoice:4711"], env);
		expect(table.stdout).toMatch(/^TIME.*ACTION.*ACTOR/);
		expect(table.stdout).toContain("Jane Doe");
		expect(table.stdout).not.toContain("\u001b");
	});

	test("what query prints can be written again and is recognised", async () => {
		await writtenId(
			"--json",
			'{"tenant_id":"again","action":"user.login","actor":{"id":"user-123"},"metadata":{"ip":"192.0.2.10"}}',
		);
		const { stdout } = await runCli(["query", "-t", "again", "--action", "user.login", "-o", "ndjson"], env);
		const { recorded_at: _, integrity: __, ...event } = JSON.parse(stdout);
		const { exitCode, stderr } = await runCli(["write"], env, JSON.stringify(event));
		expect(stderr).toBe("read 1, stored 0, duplicates 1, rejected 0\n");
		expect(exitCode).toBe(0);
	});

	test("of events on standard input the bad ones are named by line and the good ones are stored", async () => {
		const lines = [
			'{"action":"a.one","actor":{"id":"x"}}',
			'{"action":"A B","actor":{}}',
			"not json",
			'{"action":"a.two","actor":{"id":"x"},"colour":"red"}',
			'{"action":"a.three","actor":{"id":"x"}}',
		];
		const { exitCode, stdout, stderr } = await runCli(["write", "-t", "lines"], env, lines.join("\n"));
		expect(exitCode).toBe(1);
		expect(stdout.trim().split("\n")).toHaveLength(2);
		expect(stderr).toContain("line 2: action: ");
		expect(stderr).toContain("actor.id: is required");
		expect(stderr).toContain("line 3: event: is not valid JSON");
		expect(stderr).toContain("line 4: colour");
		expect(stderr).toContain("read 5, stored 2, duplicates 0, rejected 3");
	});

	test("pages join without a gap, and the token printed goes on", async () => {
		const lines = Array.from({ length: 25 }, (_, i) => `{"action":"n.${i}","actor":{"id":"x"}}`);
		await runCli(["write", "-t", "pages"], env, lines.join("\n"));
		const query = ["query", "-t", "pages", "--action", "n.*", "--order", "oldest", "-o", "ndjson", "-n", "10"];
		const actions: string[] = [];
		let token: string | undefined = "";
		while (token !== undefined) {
			const { stdout, stderr } = await runCli([...query, ...(token ? ["--page-token", token] : [])], env);
			actions.push(
				...stdout
					.trim()
					.split("\n")
					.map((line) => (JSON.parse(line) as { action: string }).action),
			);
			token = /--page-token (\S+)/.exec(stderr)?.[1];
		}
		expect(new Set(actions).size).toBe(25);
		expect(actions).toHaveLength(25);
	});
});

describe("errors say what to do", () => {
	test("a refused event: every violation, exit code 1", async () => {
		const { exitCode, stderr } = await runCli(["write", "-t", "acme", "-a", "Bad Action", "--ip", "here"], env);
		expect(exitCode).toBe(1);
		expect(stderr).toContain("event.action: must be");
		expect(stderr).toContain("event.actor: is required");
		expect(stderr).toContain("event.context.ip_address: must be");
	});

	test("options that are part of an event are never passed over", async () => {
		const event = '{"action":"a.b","actor":{"id":"x"}}';
		for (const json of [event, "-"]) {
			const both = await runCli(["write", "-t", "acme", "--json", json, "--severity", "critical"], env, event);
			expect(both).toMatchObject({
				exitCode: 2,
				stdout: "",
				stderr: expect.stringContaining("put --severity into it"),
			});
		}
		const noAction = await runCli(["write", "-t", "acme", "--actor", "user-5"], env, event);
		expect(noAction).toMatchObject({
			exitCode: 1,
			stdout: "",
			stderr: expect.stringContaining("event.action: is required"),
		});
	});

	test("a wrong key, and a key of the wrong role", async () => {
		const unknown = await runCli(["query", "-t", "acme"], {
			...env,
			AUDIT_KEY: `al_${"0".repeat(12)}_${"0".repeat(64)}`,
		});
		expect(unknown.exitCode).toBe(1);
		expect(unknown.stderr).toContain("(unauthenticated)");
		expect(unknown.stderr).toContain("--key or AUDIT_KEY");
		const reader = await createKey("reader", "--tenant", "acme");
		const refused = await runCli(["write", "-a", "a.b", "--actor", "x"], { ...env, AUDIT_KEY: reader });
		expect(refused.exitCode).toBe(1);
		expect(refused.stderr).toContain("(permission_denied)");
	});

	test("a service that cannot be found or reached", async () => {
		const nowhere = await runCli(["query"]);
		expect(nowhere.exitCode).toBe(1);
		expect(nowhere.stderr).toContain("make run");
		const away = await runCli(["query", "-t", "acme"], { ...env, AUDIT_URL: "http://127.0.0.1:9" });
		expect(away.exitCode).toBe(1);
		expect(away.stderr).toContain("(unavailable)");
	});

	test.each([
		["an unknown command", ["wirte"], "Did you mean write?"],
		["an unknown option", ["query", "--tenannt", "x"], "Did you mean --tenant?"],
		["a missing argument", ["get"], "missing required argument 'id'"],
		["an unknown word", ["query", "-t", "acme", "--severity", "loud"], "--severity must be one of debug, info"],
		["nothing to write", ["write", "-t", "acme"], "no event on standard input"],
		["a bad limit", ["query", "-n", "0"], "--limit must be"],
	])("%s: exit code 2", async (_, args, message) => {
		const { exitCode, stdout, stderr } = await runCli(args, env);
		expect(stderr).toContain(message);
		expect(stdout).toBe("");
		expect(exitCode).toBe(2);
	});
});

describe("without any setting", () => {
	test("the commands find what `make run` left in dev.json, and hint at its tenants", async () => {
		const directory = ownDirectory("data");
		mkdirSync(directory);
		writeFileSync(join(directory, "secret"), `${testSecret()}\n`);
		const dev = {
			http_url: service.httpUrl,
			grpc_url: service.grpcUrl,
			nats_url: null,
			database_url: database.url,
			admin_key: env.AUDIT_KEY,
			tenants: [{ id: "acme", name: "Acme", writer_key: "", reader_key: "" }],
		};
		writeFileSync(join(directory, "dev.json"), JSON.stringify(dev));
		const here = { DATA_DIR: directory };
		expect(await runCli(["query", "-t", "acme"], here)).toMatchObject({ exitCode: 0 });
		expect((await runCli(["query"], here)).stderr).toContain("The demo tenants of `make run`: acme (Acme)");
		expect(await runCli(["verify"], here)).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^proven: /) });
		// The key of `make run` is for that service alone.
		const elsewhere = await runCli(["query", "-t", "acme", "--url", "http://127.0.0.1:9"], here);
		expect(elsewhere.stderr).toContain("no API key");
	});
});

describe("verifying from the command line", () => {
	const database$ = () => ({ DATABASE_URL: database.url, AUDIT_SECRET: testSecret() });

	test("a trail that could not be read is neither proven nor tampered with: exit code 2", async () => {
		const away = await runCli(["verify"], { ...database$(), DATABASE_URL: "postgres://127.0.0.1:9/none" });
		expect(away).toMatchObject({ exitCode: 2, stdout: "", stderr: expect.stringContaining("could not verify: ") });
		const otherSecret = await runCli(["verify"], { ...database$(), AUDIT_SECRET: "x".repeat(32) });
		expect(otherSecret).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("AUDIT_SECRET") });
		expect(await runCli(["verify"])).toMatchObject({ exitCode: 2 });
	});

	test("the report says what was checked and what that does not show", async () => {
		const { exitCode, stdout } = await runCli(["verify", "-o", "json"], database$());
		expect(JSON.parse(stdout)).toMatchObject({
			ok: true,
			problem_count: 0,
			problems: [],
			not_proven: expect.arrayContaining([expect.stringContaining("newest batches")]),
		});
		expect(exitCode).toBe(0);
	});
});

describe("the service as a command", () => {
	test("settings that are missing or wrong are all named at once", async () => {
		const { exitCode, stderr } = await runCli(["serve"], { HTTP_PORT: "many", AUDIT_SECRET: "short" });
		expect(exitCode).toBe(1);
		for (const name of ["DATABASE_URL", "HTTP_PORT", "AUDIT_SECRET"]) expect(stderr).toContain(name);
		expect(stderr).not.toContain("    at ");
	});

	test("SIGTERM and SIGINT end it in order", async () => {
		for (const signal of ["SIGTERM", "SIGINT"] as const) {
			const another = await startService({ DATABASE_URL: database.url });
			another.kill(signal);
			expect(await another.exited()).toBe(0);
			expect(another.stdout).toContain('"stopped"');
		}
	});
});
