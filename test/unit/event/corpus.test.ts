import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type CorpusCase, type Rendering, replay } from "../../corpus/case.ts";

const folder = join(import.meta.dirname, "../../corpus/v1");
const names = readdirSync(folder);

test("the corpus is there", () => {
	expect(names.length).toBeGreaterThanOrEqual(10);
});

test.each(names)("every event shape ever accepted decodes, renders and hashes as it did: %s", (name) => {
	const recorded = JSON.parse(readFileSync(join(folder, name), "utf8")) as CorpusCase;
	const replayed = replay(recorded);
	expect({ ...replayed, rendering: asFarAs(recorded.rendering, replayed.rendering) }).toEqual(recorded);
});

/** What is answered may grow, in `integrity` alone: of the rendering of today, what there was of that when it was recorded. */
function asFarAs(recorded: Rendering, today: Rendering): Rendering {
	const known = Object.entries(today.integrity).filter(([name]) => name in recorded.integrity);
	return { ...today, integrity: Object.fromEntries(known) };
}
