import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { everyCommand } from "../support/command-tree.ts";
import { runCli } from "../support/run-cli.ts";
import { ownDirectory } from "../support/services.ts";

/** Each command is a process of its own, and a busy machine takes a second or more to start one. */
const MANY_COMMANDS = { timeout: 120_000 };

let script: string;

beforeAll(async () => {
	const { stdout } = await runCli(["completion", "bash"]);
	const folder = ownDirectory("completion");
	mkdirSync(folder);
	script = join(folder, "auditlog.bash");
	writeFileSync(script, stdout);
});

/** What bash offers where the cursor is at the end of each line. */
async function offered(...lines: string[][]): Promise<string[][]> {
	const ask = lines.map((words) => {
		const listed = ["auditlog", ...words].map((word) => `'${word}'`).join(" ");
		return `COMP_WORDS=(${listed}); COMP_CWORD=${words.length}; COMPREPLY=(); _auditlog; echo "\${COMPREPLY[*]}"`;
	});
	const line = [`source ${script}`, "complete -p auditlog >&2", ...ask].join("\n");
	const { stdout, stderr } = await promisify(execFile)("bash", ["--norc", "-euc", line]);
	expect(stderr).toContain("-F _auditlog auditlog");
	return stdout
		.split("\n")
		.slice(0, -1)
		.map((words) => words.split(" ").filter(Boolean));
}

describe("completion in bash", () => {
	test("offers every command, option and choice there is", MANY_COMMANDS, async () => {
		const tree = await everyCommand();
		expect(tree.length).toBeGreaterThan(12);
		for (const { path, words, options } of tree) {
			const at = path.split(" ").filter(Boolean);
			const [named, flags] = await offered([...at, ""], [...at, "-"]);
			expect(named?.filter((word) => word !== "help")).toEqual(
				words.map(({ word }) => word).filter((w) => w !== "help"),
			);
			expect(flags).toEqual(options.map(({ flags: all }) => all.at(-1)));
			for (const { flags: all, choices } of options.filter((option) => option.choices.length > 0)) {
				for (const flag of all) expect(await offered([...at, flag, ""])).toEqual([[...choices]]);
			}
		}
	});

	test("completes what was begun, and leaves values and files to bash", async () => {
		expect(
			await offered(
				["q"],
				["query", "--out"],
				["key", "create", "--role", "w"],
				["--no-color", "ver"],
				["help", "imp"],
			),
		).toEqual([["query"], ["--outcome", "--output"], ["writer"], ["verify"], ["import"]]);
		expect(await offered(["import", "te"], ["query", "--tenant", ""])).toEqual([[], []]);
	});
});

test.each(["zsh", "fish"])("the script for %s names every command, option and choice", async (shell) => {
	const { exitCode, stdout: script$ } = await runCli(["completion", shell]);
	expect(exitCode).toBe(0);
	// In fish an apostrophe within apostrophes has a backslash before it.
	const stdout = script$.replaceAll("\\'", "'");
	for (const { path, words, options } of await everyCommand()) {
		expect(stdout).toContain(`'${path}'`);
		for (const { word } of words) expect(stdout).toMatch(new RegExp(`['" ]${word}\\b`));
		for (const { flags, choices } of options) {
			expect(stdout).toContain(flags.at(-1)?.replace(/^--/, ""));
			for (const choice of choices) expect(stdout).toContain(choice);
		}
	}
});

test("a shell there is no script for: exit code 2, and those there are", async () => {
	expect(await runCli(["completion", "tcsh"])).toMatchObject({
		exitCode: 2,
		stderr: expect.stringContaining("bash, zsh, fish"),
	});
});
