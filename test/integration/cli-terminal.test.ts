import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify, stripVTControlCharacters } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, type TestDatabase, testSecret } from "../support/services.ts";

/** Each command is a process of its own, and a busy machine takes a second or more to start one. */
const MANY_COMMANDS = { timeout: 120_000 };

/** What `auditlog` prints on a terminal (a pseudo-terminal made by `script`), into a pipe, and to readers that go away. */

const ROOT = join(import.meta.dirname, "..", "..");
const FILE = "test/fixtures/cloudtrail.ndjson.gz";

let database: TestDatabase;
let service: ServiceProcess;
let env: Record<string, string>;
let folder: string;

beforeAll(async () => {
	database = await createTestDatabase();
	service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	const create = ["key", "create", "--role", "operator", "--all-tenants", "--name", "test"];
	const { stdout } = await runCli(create, { DATABASE_URL: database.url, AUDIT_SECRET: testSecret() });
	env = { AUDIT_URL: service.httpUrl, AUDIT_KEY: stdout.trim() };
	expect((await runCli(["import", "--format", "cloudtrail", "--tenant", "cloud", FILE], env)).exitCode).toBe(0);
	folder = ownDirectory("cli");
	mkdirSync(folder);
	return async () => {
		await service.stop();
		await database.drop();
	};
});

/** Runs a line of bash, in which `auditlog` is ours; what it printed and its exit code. */
async function bash(line: string, more: Record<string, string> = {}, inTerminal?: { columns: number }) {
	const auditlog = `auditlog() { '${process.execPath}' '${join(ROOT, "src/main.ts")}' "$@"; }; cd '${ROOT}'`;
	const script = `${auditlog}; ${line}`;
	const file = join(folder, `${Math.random()}.sh`);
	writeFileSync(file, inTerminal ? `stty cols ${inTerminal.columns}; ${script}` : script);
	const [program, args] = inTerminal ? ["script", ["-qefc", `bash ${file}`, "/dev/null"]] : ["bash", [file]];
	const options = { env: { PATH: process.env.PATH, DATA_DIR: "no-such-directory", TERM: "xterm", ...env, ...more } };
	const { stdout, stderr } = await promisify(execFile)(program as string, args as string[], options);
	return { stdout, stderr };
}

const onTerminal = async (line: string, columns = 120, more: Record<string, string> = {}) =>
	(await bash(line, more, { columns })).stdout.replaceAll("\r\n", "\n");

describe("a table", () => {
	const query = "auditlog query --tenant cloud --action 'ec2.*' -n 40";

	test.each([60, 80, 100, 140])("fits a terminal of %d columns", async (columns) => {
		const lines = stripVTControlCharacters(await onTerminal(query, columns))
			.trimEnd()
			.split("\n");
		const table = lines.filter((line) => !line.startsWith("there are more"));
		expect(table).toHaveLength(41);
		for (const line of table) expect(line.trimEnd().length).toBeLessThanOrEqual(columns);
	});

	test("has colour on a terminal and nowhere else, unless it is told so", MANY_COMMANDS, async () => {
		const denied = "auditlog query --tenant cloud --outcome denied -n 3";
		const red = "\u001b[31m";
		expect(await onTerminal(denied)).toContain(red);
		expect(await onTerminal(denied, 120, { NO_COLOR: "1" })).not.toContain("\u001b");
		expect(await onTerminal(`${denied} --no-color`)).not.toContain("\u001b");
		expect((await bash(denied)).stdout).not.toContain("\u001b");
		expect((await bash(denied, { FORCE_COLOR: "1" })).stdout).toContain(red);
	});
});

describe("what callers sent", () => {
	const hostile = "\u001b[2J\u001b]0;owned\u0007\u009b31m\u202eevil\u2066";

	test("steers no terminal, in no format, from query, get, write and import", MANY_COMMANDS, async () => {
		const event = {
			action: "hostile.event",
			actor: { id: "x", display_name: hostile },
			metadata: { [hostile]: hostile },
		};
		const written = await runCli(["write", "-t", "hostile", "-o", "json", "--json", JSON.stringify(event)], env);
		const { event_id: id } = JSON.parse(written.stdout) as { event_id: string };
		const outputs = [];
		for (const format of ["table", "json", "ndjson", "csv"]) {
			outputs.push(await runCli(["query", "-t", "hostile", "--action", "hostile.event", "-o", format], env));
			outputs.push(await runCli(["get", "-t", "hostile", id, "-o", format], env));
		}
		for (const { exitCode, stdout } of outputs) {
			expect(exitCode).toBe(0);
			expect(stdout).toContain("hostile.event");
		}
		const unknown = JSON.stringify({ action: "a.b", actor: { id: "x" }, [hostile]: 1 });
		outputs.push(await runCli(["write", "-t", "hostile"], env, unknown));
		outputs.push(await runCli(["write", "-t", "hostile", "--json", unknown], env));
		for (const { stdout, stderr } of outputs) {
			expect(`${stdout}${stderr}`).not.toMatch(/[^\P{Cc}\r\n]|[\u202e\u2066]/u);
		}
		// And yet a program gets what was sent.
		const [, shown] = outputs.filter(({ stdout }) => stdout.startsWith("{"));
		expect((JSON.parse(shown?.stdout ?? "") as typeof event).actor.display_name).toBe(hostile);
	});
});

describe("progress", () => {
	test(
		"is shown on a terminal while an import, a long query into a file and a verification go on",
		MANY_COMMANDS,
		async () => {
			const imported = await onTerminal(`auditlog import --format cloudtrail --tenant cloud ${FILE}`);
			expect(imported).toContain("importing [");
			expect(imported).toContain("\r\u001b[Kread 2,900, stored 0, duplicates 2,900");
			const file = join(folder, "cloud.ndjson");
			const queried = await onTerminal(`auditlog query --tenant cloud -n 100000 -o ndjson > ${file}`);
			expect(queried).toMatch(/reading 1,000 events/);
			expect(readFileSync(file, "utf8").trimEnd().split("\n")).toHaveLength(2_901);
			const verified = await onTerminal(`DATABASE_URL=${database.url} AUDIT_SECRET=${testSecret()} auditlog verify`);
			expect(verified).toContain("verifying");
		},
	);

	test("is not written anywhere else: the summary alone is", MANY_COMMANDS, async () => {
		const imported = await runCli(["import", "--format", "cloudtrail", "--tenant", "cloud", FILE], env);
		expect(imported.stderr).toBe("");
		expect(imported.stdout).toMatch(/^read 2,900, stored 0, duplicates 2,900, rejected 0 in .* s\n$/);
		const queried = await runCli(["query", "-t", "cloud", "-n", "100000", "-o", "csv"], env);
		expect(queried.stderr).toBe("");
	});
});

describe("a reader that goes away", () => {
	test.each(["table", "json", "ndjson", "csv"])("ends a query as %s without a word, exit code 0", async (format) => {
		const line = `auditlog query --tenant cloud -n 100000 -o ${format} | head -n 1; echo "exit codes \${PIPESTATUS[@]}"`;
		const { stdout, stderr } = await bash(line);
		expect(stdout.trimEnd().split("\n")).toHaveLength(2);
		expect(stdout).toContain("exit codes 0 0");
		expect(stderr).toBe("");
	});

	test("does not end `write`: the events that are on their way are stored", MANY_COMMANDS, async () => {
		const line = (i: number) => JSON.stringify({ action: "still.written", actor: { id: `user-${i}` } });
		const file = join(folder, "many.ndjson");
		writeFileSync(file, Array.from({ length: 3_000 }, (_, i) => line(i)).join("\n"));
		const { stdout, stderr } = await bash(`auditlog write -t gone < ${file} | head -n 1; echo "\${PIPESTATUS[@]}"`);
		expect(stderr).toBe("read 3,000, stored 3,000, duplicates 0, rejected 0\n");
		expect(stdout).toMatch(/^stored .*\n0 0\n$/);
		const found = await runCli(["query", "-t", "gone", "--action", "still.written", "-n", "9000", "-o", "ndjson"], env);
		expect(found.stdout.trimEnd().split("\n")).toHaveLength(3_000);
	});
});
