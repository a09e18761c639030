import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { REVOKED_WITHIN_MS } from "../src/auth/api-key-verifier.ts";
import { EXIT } from "../src/cli/command-line.ts";
import { CONFIG } from "../src/cli/config.ts";
import { DISCARDED } from "../src/cli/dead-letters/discard.ts";
import { LETTERS } from "../src/cli/dead-letters/list.ts";
import { REDRIVEN } from "../src/cli/dead-letters/redrive.ts";
import { EVENTS } from "../src/cli/event-listing.ts";
import { KEYS } from "../src/cli/key/list.ts";
import { FORMATS } from "../src/cli/output/listing.ts";
import { TENANTS } from "../src/cli/tenant/list.ts";
import { everyCommand } from "./support/command-tree.ts";
import { runCli } from "./support/run-cli.ts";

/** docs/cli.md says what the program does. */

const doc = readFileSync(join(import.meta.dirname, "../docs/cli.md"), "utf8");

/** The first cells of the table below a heading, without marks. */
function firstCells(heading: string): string[] {
	const [, section = ""] = doc.split(`## ${heading}\n`);
	const rows = section.split("\n## ")[0]?.match(/^\|.*\|$/gm) ?? [];
	return rows.slice(2).map((row) => row.split("|")[1]?.replaceAll("`", "").trim() ?? "");
}

describe("docs/cli.md", () => {
	test("names every command there is, in the order of `--help`", async () => {
		const paths = (await everyCommand())
			.map(({ path }) => path)
			.filter((path) => !["", "dead-letters", "tenant", "key"].includes(path));
		expect(firstCells("Commands")).toEqual(paths.map((path) => `auditlog ${path}`));
	});

	test("names the exit codes that `--help` names, and there are no others", async () => {
		const { stdout } = await runCli(["--help"]);
		const listed = /Exit codes:\n((?: {2}.*\n)+)/.exec(stdout)?.[1] ?? "";
		const codes = [...listed.matchAll(/^ {2}([\d, ]+?) {2}/gm)].map((match) => match[1]);
		expect(firstCells("Exit codes")).toEqual(codes);
		expect(codes.slice(0, 3)).toEqual(Object.values(EXIT).map(String));
	});

	test("names the formats and the columns of CSV", () => {
		expect(firstCells("Output").slice(0, FORMATS.length)).toEqual([...FORMATS]);
		for (const { csv } of [EVENTS, LETTERS, REDRIVEN, DISCARDED, TENANTS, KEYS, CONFIG]) {
			expect(doc).toContain(`\`${csv.map(({ name }) => name).join(",")}\``);
		}
	});

	test("names how long a revoked key may still be taken", () => {
		expect(doc).toContain(`up to ${REVOKED_WITHIN_MS / 1000} seconds more`);
	});
});
