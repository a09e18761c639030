import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { PERMISSIONS } from "../src/auth/permissions.ts";

/** Who adds an RPC has to say who may call it and whether it is a read: the tables with one RPC left out are type errors. */

const ROOT = join(import.meta.dirname, "..");

test.each(["src/auth/permissions.ts", "src/rpc/recorded-reads.ts"])(
	"an RPC missing in %s does not compile",
	(table) => {
		const text = readFileSync(join(ROOT, table), "utf8")
			.replaceAll('from "../', 'from "../../src/')
			.replaceAll('from "./', `from "../../${dirname(table)}/`);
		const rpcs = Object.keys(PERMISSIONS);
		const folder = mkdtempSync(join(ROOT, "test/.tables-"));
		try {
			writeFileSync(join(folder, "complete.ts"), text);
			for (const rpc of rpcs) writeFileSync(join(folder, `${rpc}.ts`), without(rpc, text));
			writeFileSync(join(folder, "tsconfig.json"), '{ "extends": "../../tsconfig.json", "include": ["*.ts"] }');
			const { stdout } = spawnSync("tsc", ["-p", folder], { cwd: ROOT, encoding: "utf8" });
			const wrong = [...stdout.matchAll(/(\w+)\.ts\(\d+,\d+\): error TS2741: Property '(\w+)' is missing/g)];
			expect(wrong.map(([, file, missing]) => `${file} lacks ${missing}`).sort()).toEqual(
				rpcs.map((rpc) => `${rpc} lacks ${rpc}`).sort(),
			);
		} finally {
			rmSync(folder, { recursive: true, force: true });
		}
	},
);

function without(rpc: string, text: string): string {
	const shorter = text.replace(new RegExp(`^\t${rpc}: .*\n`, "m"), "");
	expect(shorter.length).toBeLessThan(text.length);
	return shorter;
}
