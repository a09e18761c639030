import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

/** docs/security.md promises nothing that no test holds it to. */

const ROOT = join(import.meta.dirname, "..");
const text = readFileSync(join(ROOT, "docs/security.md"), "utf8");
const [promised = "", mapped = ""] = text.split("\n## Catalogues\n");
const promises = [...promised.matchAll(/^\| ([A-Z]\d+) \| (.+) \|$/gm)].map(([, id = "", row = ""]) => ({ id, row }));

test("every promise names a test, by a file that is there and a name that is in it", () => {
	expect(promises.length).toBeGreaterThan(30);
	const unproven = promises.filter(({ row }) => {
		const named = [...row.matchAll(/`(test\/[\w./-]+\.ts)`(?: > ([^;|]+))?/g)];
		return named.length === 0 || named.some(([, file = "", name = ""]) => !isTest(file, name.trim()));
	});
	expect(unproven).toEqual([]);
});

function isTest(file: string, name: string): boolean {
	const path = join(ROOT, file);
	return existsSync(path) && readFileSync(path, "utf8").includes(name);
}

test("the catalogues point at promises that are made", () => {
	const ids = promises.map(({ id }) => id);
	const pointed = [...mapped.matchAll(/\b([TKAI])(\d+)(?:–\1(\d+))?\b(?!\.)/g)].flatMap(
		([, letter, from, to = from]) => [`${letter}${from}`, `${letter}${to}`],
	);
	expect(pointed.length).toBeGreaterThan(50);
	expect(pointed.filter((id) => !ids.includes(id))).toEqual([]);
});
