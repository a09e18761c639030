import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type CorpusCase, replay } from "../../corpus/case.ts";

const folder = join(import.meta.dirname, "../../corpus/v1");
const names = readdirSync(folder);

test("the corpus is there", () => {
	expect(names.length).toBeGreaterThanOrEqual(10);
});

test.each(names)("every event shape ever accepted decodes, renders and hashes as it did: %s", (name) => {
	const recorded = JSON.parse(readFileSync(join(folder, name), "utf8")) as CorpusCase;
	expect(replay(recorded)).toEqual(recorded);
});
