import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, test } from "vitest";

/** What the documents point at is there, and whoever begins at the README gets everywhere. */

const ROOT = join(import.meta.dirname, "..");
const documents = ["README.md", "CHANGELOG.md", ...globSync(["docs/**/*.md", "test/**/*.md"], { cwd: ROOT })];
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

interface Link {
	readonly from: string;
	/** The file or folder, from the root of the clone. */
	readonly to: string;
	readonly anchor: string | undefined;
}

function linksOf(from: string): Link[] {
	const prose = read(from).replaceAll(/^```[\s\S]*?^```/gm, "");
	return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
		.map(([, target = ""]) => target)
		.filter((target) => !/^[a-z]+:/.test(target))
		.map((target) => {
			const [path = "", anchor] = target.split("#");
			return { from, to: path === "" ? from : relative(ROOT, join(ROOT, dirname(from), path)), anchor };
		});
}

/** The names GitHub gives to headings. */
function anchorsOf(path: string): Set<string> {
	const seen = new Map<string, number>();
	const anchors = [...read(path).matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => {
		const name = heading
			.toLowerCase()
			.replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
			.replaceAll(" ", "-");
		const count = seen.get(name) ?? 0;
		seen.set(name, count + 1);
		return count === 0 ? name : `${name}-${count}`;
	});
	return new Set(anchors);
}

const links = documents.flatMap(linksOf);

test("every relative link leads to a file that is there, and to a heading that is in it", () => {
	expect(links.length).toBeGreaterThan(50);
	const dead = links.filter(
		({ to, anchor }) =>
			!existsSync(join(ROOT, to)) || (anchor !== undefined && to.endsWith(".md") && !anchorsOf(to).has(anchor)),
	);
	expect(dead).toEqual([]);
});

test("the README leads to every page of docs/", () => {
	const linked = linksOf("README.md").map(({ to }) => to);
	const pages = globSync("docs/*.{md,json}", { cwd: ROOT });
	expect(pages.filter((page) => !linked.includes(page))).toEqual([]);
	expect(linked).toContain("docs/examples");
});

test("every target of make that a document names is in the Makefile", () => {
	const targets = new Set([...read("Makefile").matchAll(/^([a-z-]+):/gm)].map(([, target]) => target));
	const named = documents.flatMap((path) =>
		[...read(path).matchAll(/(?:`|^)make ([a-z][a-z-]*)/gm)].map(([, target = ""]) => ({ path, target })),
	);
	expect(named.length).toBeGreaterThan(10);
	expect(named.filter(({ target }) => !targets.has(target))).toEqual([]);
});
