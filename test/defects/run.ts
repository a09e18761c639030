import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
	cpSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	rmSync,
	symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";

/**
 * Shows that the tests can fail: applies each patch of this folder, which breaks one guarantee, to a copy of the
 * repository, and requires the test it names to go red (and to be green without the patch).
 *
 *     node test/defects/run.ts [NAME …]
 *
 * A patch begins with two lines: `Breaks: …` (the guarantee) and `Test: FILE > NAME` (the test, by
 * file and full name, as `vitest list` prints it).
 */

const ROOT = join(import.meta.dirname, "../..");
const SIDE_BY_SIDE = 2;

interface Defect {
	readonly name: string;
	readonly breaks: string;
	readonly file: string;
	readonly test: string;
	/** Of the test: several defects may name one. */
	readonly id: string;
}

const wanted = process.argv.slice(2);
const defects = readdirSync(import.meta.dirname)
	.filter((file) => file.endsWith(".patch"))
	.map(readDefect)
	.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
if (defects.length === 0) throw new Error("there are no defects to try");

const outcomesWithout = await runWithout();
const waiting = [...defects];
let failures = 0;
await Promise.all(Array.from({ length: SIDE_BY_SIDE }, tryThoseWaiting));
process.stdout.write(`\n${defects.length - failures} of ${defects.length} defects caught\n`);
process.exitCode = failures === 0 ? 0 : 1;

function readDefect(file: string): Defect {
	const patch = readFileSync(join(import.meta.dirname, file), "utf8");
	const breaks = /^Breaks: (.+)$/m.exec(patch)?.[1];
	const [, testFile, test] = /^Test: (\S+) > (.+)$/m.exec(patch) ?? [];
	if (!breaks || !testFile || !test) throw new Error(`${file} does not say what it breaks, or which test shows it`);
	return { name: file.replace(/\.patch$/, ""), breaks, file: testFile, test, id: `${testFile} > ${test}` };
}

/** Runs every test without its defect: alone of its file, as it will be with it, but side by side with other files'. */
async function runWithout(): Promise<Map<string, string>> {
	const outcomes = new Map<string, string>();
	for (let left = defects; left.length > 0; left = left.filter(({ id }) => !outcomes.has(id))) {
		const oneOfEachFile = [...new Map(left.map((defect) => [defect.file, defect])).values()];
		const outcomeOf = await inCopy((copy) => runTests(copy, oneOfEachFile));
		for (const defect of oneOfEachFile) outcomes.set(defect.id, outcomeOf(defect));
	}
	return outcomes;
}

async function tryThoseWaiting(): Promise<void> {
	for (let defect = waiting.shift(); defect; defect = waiting.shift()) {
		const verdict = await tryDefect(defect);
		if (verdict) failures += 1;
		process.stdout.write(`${verdict ? `FAIL  ${verdict}` : "caught"}  ${defect.name}: ${defect.breaks}\n`);
	}
}

/** @returns what is wrong, or undefined if the defect was caught by its test */
function tryDefect(defect: Defect): Promise<string | undefined> {
	return inCopy(async (copy) => {
		const without = outcomesWithout.get(defect.id);
		if (without !== "passed") return `its test is ${without} without it:`;
		const patch = spawnSync("patch", ["-p1", "--forward", "--no-backup-if-mismatch"], {
			cwd: copy,
			input: readFileSync(join(import.meta.dirname, `${defect.name}.patch`)),
		});
		if (patch.status !== 0) return `the patch does not apply (${String(patch.stdout).trim()}):`;
		const outcome = (await runTests(copy, [defect]))(defect);
		return outcome === "failed" ? undefined : `its test is ${outcome} with it:`;
	});
}

/** Lends a copy of the repository as it is now, committed or not. */
async function inCopy<T>(use: (copy: string) => Promise<T>): Promise<T> {
	const copy = mkdtempSync(join(tmpdir(), "auditlog-defect-"));
	try {
		const files = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT });
		const present = (file: string) => file !== "" && existsSync(join(ROOT, file));
		for (const file of files.toString().split("\0").filter(present)) {
			mkdirSync(dirname(join(copy, file)), { recursive: true });
			// With their times: what looks newer than what is installed makes a test's `make` install again.
			cpSync(join(ROOT, file), join(copy, file), { force: true, preserveTimestamps: true });
		}
		linkPackages(copy);
		return await use(copy);
	} finally {
		rmSync(copy, { recursive: true, force: true });
	}
}

/** Package by package: what a copy installs, caches or removes stays its own, and links to the repository lead to the copy. */
function linkPackages(copy: string): void {
	mkdirSync(join(copy, "node_modules"));
	for (const entry of readdirSync(join(ROOT, "node_modules"), { withFileTypes: true })) {
		const [from, to] = [ROOT, copy].map((root) => join(root, "node_modules", entry.name)) as [string, string];
		if (entry.isSymbolicLink()) symlinkSync(readlinkSync(from), to);
		else if (entry.name === ".bin" || entry.isFile()) {
			cpSync(from, to, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
		} else if (!entry.name.startsWith(".")) symlinkSync(from, to);
	}
}

/** What became of a defect's test: "passed", "failed", or why it has no result. */
type Outcome = (defect: Defect) => string;

/** Runs the tests that some defects name. */
async function runTests(copy: string, named: readonly Defect[]): Promise<Outcome> {
	const report = join(copy, "report.json");
	const names = named.map(({ test }) => test.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
	const files = new Set(named.map(({ file }) => file));
	const args = ["run", ...files, "-t", `^(${names.join("|")})$`, "--reporter=json", `--outputFile=${report}`];
	const vitest = spawn("vitest", args, { cwd: copy, stdio: ["ignore", "ignore", "pipe"] });
	const [complaints] = await Promise.all([text(vitest.stderr), once(vitest, "close")]);
	const { testResults } = (existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : { testResults: [] }) as {
		testResults: { name: string; message: string; assertionResults: { fullName: string; status: string }[] }[];
	};
	return ({ file, test }) => {
		const ofFile = testResults.find(({ name }) => name.endsWith(`/${file}`));
		const ofTest = ofFile?.assertionResults.find(({ fullName }) => fullName === test.replaceAll(" > ", " "));
		return ofTest?.status ?? `missing (${ofFile?.message || complaints.trim()})`;
	};
}
