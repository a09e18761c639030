import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type CliResult, runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, natsUrl, type TestDatabase, testSecret } from "../support/services.ts";

/** Each command is a process of its own, and a busy machine takes a second or more to start one. */
const MANY_COMMANDS = { timeout: 120_000 };

/** What goes wrong on the way to the service, and what the command line says to do about it. */

let database: TestDatabase;
let service: ServiceProcess;

beforeAll(async () => {
	database = await createTestDatabase();
	service = await startService({ DATABASE_URL: database.url });
	return async () => {
		await service.stop();
		await database.drop();
	};
});

const KEY = `al_${"0".repeat(12)}_${"0".repeat(64)}`;
const FILE = "test/fixtures/cloudtrail.ndjson.gz";
const queryAt = (url: string) => runCli(["query", "-t", "acme", "--url", url, "--key", KEY]);
const importAt = (...args: string[]) =>
	runCli(["import", "--format", "cloudtrail", "--tenant", "acme", "--via", "nats", ...args, FILE]);

function expectAdvice({ exitCode, stdout, stderr }: CliResult, expected: number, ...advice: string[]): void {
	for (const text of advice) expect(stderr).toContain(text);
	expect(stderr).not.toContain('"level"');
	expect(stdout).toBe("");
	expect(exitCode).toBe(expected);
}

describe("an address", () => {
	test.each(["localhost:8080", "http://", "grpc://localhost:50051", "http//x"])(
		"%s is none: exit code 2",
		async (url) => {
			expectAdvice(await queryAt(url), 2, "--url must look like http://localhost:8080");
			const fromEnvironment = await runCli(["query"], { AUDIT_URL: url, AUDIT_KEY: KEY });
			expectAdvice(fromEnvironment, 2, "AUDIT_URL must look like http://localhost:8080");
		},
	);

	test.each(["localhost:4222", "http://localhost:4222"])("%s is none of NATS: exit code 2", async (url) => {
		expectAdvice(await importAt("--nats-url", url), 2, "must look like nats://localhost:4222");
	});

	test("where nobody is", MANY_COMMANDS, async () => {
		expectAdvice(await queryAt("http://127.0.0.1:9"), 1, "(unavailable)", "`make run` starts one");
		expectAdvice(await queryAt("http://no-such-host.invalid"), 1, "no such host");
		expectAdvice(await importAt("--nats-url", "nats://127.0.0.1:9"), 1, "Is NATS running", "--nats-url");
	});

	test("where somebody else is, or by another protocol", MANY_COMMANDS, async () => {
		expectAdvice(await queryAt(natsUrl().replace(/^nats:/, "http:")), 1, "not the service");
		expectAdvice(await queryAt(service.httpUrl.replace("http:", "https:")), 1, "http:// instead of https://");
		expectAdvice(await queryAt(service.grpcUrl.replace("http:", "https:")), 1, "http:// instead of https://");
	});

	test("whose health is asked for: --url, the settings, AUDIT_URL", MANY_COMMANDS, async () => {
		const health = (env: Record<string, string>, ...args: string[]) => runCli(["health", ...args], env);
		const elsewhere = { AUDIT_URL: service.httpUrl };
		const settings = { DATABASE_URL: database.url, AUDIT_SECRET: testSecret(), HTTP_PORT: "9" };
		expectAdvice(await health({ ...settings, ...elsewhere }), 1, "no service answers at http://127.0.0.1:9");
		expect(await health({ ...settings }, "--url", service.httpUrl)).toMatchObject({ exitCode: 0 });
		expect(await health(elsewhere)).toMatchObject({ exitCode: 0, stdout: "ready\n  nats: not configured\n" });
		expectAdvice(await health({}), 1, "no service found", "`make run`", "AUDIT_URL");
		expectAdvice(await health({}, "--url", "localhost:8080"), 2, "--url must look like");
	});

	test("either port of the service is right", MANY_COMMANDS, async () => {
		for (const url of [service.httpUrl, service.grpcUrl]) {
			expectAdvice(await queryAt(url), 1, "(unauthenticated)", "auditlog key create");
		}
	});
});

describe("files", () => {
	test("that are not there are named", async () => {
		const missing = await runCli(["import", "--format", "cloudtrail", "--tenant", "acme", "no-such-file.gz"]);
		expectAdvice(missing, 1, "no-such-file.gz: there is no such file");
		const folder = await runCli(["import", "--format", "cloudtrail", "--tenant", "acme", "test"]);
		expectAdvice(folder, 1, "test is a folder");
	});

	test("of `make run` that are not there: how to have a database is said", MANY_COMMANDS, async () => {
		for (const args of [["key", "list"], ["tenant", "list"], ["migrate"]]) {
			expectAdvice(await runCli(args), 1, "`make run`", "DATABASE_URL and AUDIT_SECRET");
		}
		expectAdvice(await runCli(["verify"]), 2, "`make run`", "DATABASE_URL and AUDIT_SECRET");
	});
});

describe("signals", () => {
	test.each([
		["SIGINT", 130],
		["SIGTERM", 143],
	] as const)("%s ends a command that waits: exit code %d", async (signal, code) => {
		// Takes the call and never answers it.
		const silent = createServer().listen(0, "127.0.0.1");
		await once(silent, "listening");
		const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
		const called = once(silent, "connection");
		const child = spawn(process.execPath, ["src/main.ts", "query", "-t", "acme"], {
			cwd: join(import.meta.dirname, "../.."),
			env: { AUDIT_URL: url, AUDIT_KEY: KEY },
			stdio: "ignore",
		});
		const exited = once(child, "exit");
		await called;
		child.kill(signal);
		expect(await exited).toEqual([code, null]);
		silent.close();
	});
});

describe("the settings of the service", () => {
	const settings = { DATABASE_URL: "postgres://audit:hunter2@db.example:5432/audit?sslmode=require&password=hunter3" };

	test("are shown with where they come from, and nothing secret", MANY_COMMANDS, async () => {
		const env = { ...settings, AUDIT_SECRET: testSecret(), NATS_URL: "nats://token@n1:4222,nats://token@n2:4222" };
		for (const format of ["table", "json", "ndjson", "csv"]) {
			const { exitCode, stdout } = await runCli(["config", "-o", format], env);
			expect(exitCode).toBe(0);
			expect(stdout).toContain("postgres://db.example:5432/audit");
			expect(stdout).toContain("nats://n1:4222,nats://n2:4222");
			expect(stdout).toContain(`(${testSecret().length} characters)`);
			for (const secret of ["hunter2", "hunter3", "audit:", "token", testSecret()])
				expect(stdout).not.toContain(secret);
		}
	});

	test("that `serve` would refuse are named: exit code 1", async () => {
		const { exitCode, stdout } = await runCli(["config", "-o", "csv"], { ...settings, HTTP_PORT: "many" });
		expect(exitCode).toBe(1);
		expect(stdout).toContain("AUDIT_SECRET,,not set,is required\r\n");
		expect(stdout).toContain("HTTP_PORT,many,environment,must be a port: a number from 0 to 65535\r\n");
		expect(stdout).toContain("GRPC_PORT,50051,default,\r\n");
	});

	test('that are none are named, as "serve" does: a name that is misspelt says nothing', async () => {
		const env = { ...settings, AUDIT_SECRET: testSecret(), AUDIT_CORS_ORIGIN: "https://x", AUDIT_URL: "http://x" };
		const { exitCode, stderr } = await runCli(["config"], env);
		expect(exitCode).toBe(0);
		expect(stderr).toBe("AUDIT_CORS_ORIGIN is no setting: it is passed over\n");
	});
});
