import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const FOLDER = join(import.meta.dirname, "defects");
const PATCHES = readdirSync(FOLDER).filter((name) => name.endsWith(".patch"));

test("there are defects", () => {
	expect(PATCHES.length).toBeGreaterThan(50);
});

// Trying them all takes most of an hour (`node test/defects/run.ts`); that they can be tried is seen at once.
test.each(PATCHES)("%s still applies, and the file of its test is there", (name) => {
	const input = readFileSync(join(FOLDER, name), "utf8");
	const { status, stdout } = spawnSync("patch", ["-p1", "--forward", "--dry-run"], { cwd: ROOT, input });
	expect(String(stdout)).not.toMatch(/FAILED|ignored/);
	expect(status).toBe(0);
	const [, file = ""] = /^Test: (\S+) > .+$/m.exec(input) ?? [];
	expect(existsSync(join(ROOT, file)), file).toBe(true);
});
