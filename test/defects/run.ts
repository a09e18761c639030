import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

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

interface Defect {
	readonly name: string;
	readonly breaks: string;
	readonly file: string;
	readonly test: string;
}

const wanted = process.argv.slice(2);
const defects = readdirSync(import.meta.dirname)
	.filter((file) => file.endsWith(".patch"))
	.map(readDefect)
	.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
if (defects.length === 0) throw new Error("there are no defects to try");

let failures = 0;
for (const defect of defects) {
	const verdict = tryDefect(defect);
	if (verdict) failures += 1;
	process.stdout.write(`${verdict ? `FAIL  ${verdict}` : "caught"}  ${defect.name}: ${defect.breaks}\n`);
}
process.stdout.write(`\n${defects.length - failures} of ${defects.length} defects caught\n`);
process.exitCode = failures === 0 ? 0 : 1;

function readDefect(file: string): Defect {
	const text = readFileSync(join(import.meta.dirname, file), "utf8");
	const breaks = /^Breaks: (.+)$/m.exec(text)?.[1];
	const [, testFile, test] = /^Test: (\S+) > (.+)$/m.exec(text) ?? [];
	if (!breaks || !testFile || !test) throw new Error(`${file} does not say what it breaks, or which test shows it`);
	return { name: file.replace(/\.patch$/, ""), breaks, file: testFile, test };
}

/** @returns what is wrong, or undefined if the defect was caught by its test */
function tryDefect(defect: Defect): string | undefined {
	const copy = mkdtempSync(join(tmpdir(), "auditlog-defect-"));
	try {
		const files = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT });
		const present = (file: string) => file !== "" && existsSync(join(ROOT, file));
		for (const file of files.toString().split("\0").filter(present)) {
			mkdirSync(dirname(join(copy, file)), { recursive: true });
			// With their times: what looks newer than what is installed makes a test's `make` install it again, through the link.
			cpSync(join(ROOT, file), join(copy, file), { force: true, preserveTimestamps: true });
		}
		symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
		if (statusOf(copy, defect) !== "passed") return "its test is not green without it:";
		const patch = spawnSync("patch", ["-p1", "--forward", "--no-backup-if-mismatch"], {
			cwd: copy,
			input: readFileSync(join(import.meta.dirname, `${defect.name}.patch`)),
		});
		if (patch.status !== 0) return `the patch does not apply (${String(patch.stdout).trim()}):`;
		const status = statusOf(copy, defect);
		return status === "failed" ? undefined : `its test is ${status ?? "missing"} with it:`;
	} finally {
		rmSync(copy, { recursive: true, force: true });
	}
}

/** What became of the named test in this copy. */
function statusOf(copy: string, { file, test }: Defect): string | undefined {
	const report = join(copy, "report.json");
	const pattern = `^${test.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`;
	spawnSync("vitest", ["run", file, "-t", pattern, "--reporter=json", `--outputFile=${report}`], { cwd: copy });
	const { testResults } = JSON.parse(readFileSync(report, "utf8")) as {
		testResults: { assertionResults: { fullName: string; status: string }[] }[];
	};
	return testResults
		.flatMap(({ assertionResults }) => assertionResults)
		.find(({ fullName }) => fullName === test.replaceAll(" > ", " "))?.status;
}
