import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, test } from "vitest";

/** The rules of docs/architecture.md that a machine can check, from the import lines and the files' sizes. */

const ROOT = join(import.meta.dirname, "..");
const STEPS = ["ingest", "seal", "query", "tail", "export", "delivery", "retention"];

interface SourceFile {
	/** Relative to `src/`. */
	readonly path: string;
	/** The first folder, or "" for files directly in `src/`. */
	readonly folder: string;
	readonly text: string;
	/** What it imports: files relative to `src/`, or package names. */
	readonly imports: readonly string[];
}

const files = filesUnder(join(ROOT, "src"))
	.filter((file) => /\.tsx?$/.test(file) && !file.includes("/gen/"))
	.map(readSource);

function filesUnder(folder: string): string[] {
	return readdirSync(folder, { withFileTypes: true, recursive: true })
		.filter((entry) => entry.isFile())
		.map((entry) => join(entry.parentPath, entry.name));
}

function readSource(file: string): SourceFile {
	const path = relative(join(ROOT, "src"), file);
	const text = readFileSync(file, "utf8");
	const specifiers = [
		...text.matchAll(
			/(?:^|\n)\s*(?:import|export)\s[^;"']*?from\s+["']([^"']+)["']|import\(\s*["']([^"']+)["']|(?:^|\n)import\s+["']([^"']+)["']/g,
		),
	];
	const imports = specifiers.map((match) => {
		const specifier = match[1] ?? match[2] ?? match[3] ?? "";
		return specifier.startsWith(".") ? relative(join(ROOT, "src"), join(file, "..", specifier)) : specifier;
	});
	return { path, folder: path.includes("/") ? (path.split("/")[0] ?? "") : "", text, imports };
}

/** Every import that breaks the rule, as `file → import`. */
function offences(
	inFiles: (file: SourceFile) => boolean,
	forbidden: (imported: string, file: SourceFile) => boolean,
): string[] {
	return files
		.filter(inFiles)
		.flatMap((file) => file.imports.filter((i) => forbidden(i, file)).map((i) => `${file.path} → ${i}`));
}

const isLocal = (imported: string) => imported.endsWith(".ts") || imported.endsWith(".tsx");
const folderOf = (imported: string) => (imported.includes("/") ? imported.split("/")[0] : "");
const isPackage = (imported: string, name: RegExp) => !isLocal(imported) && name.test(imported);

describe("imports point one way", () => {
	test("the rules are looking at something", () => {
		expect(files.length).toBeGreaterThan(30);
		expect(files.flatMap((file) => file.imports).length).toBeGreaterThan(100);
	});

	test("event/ and integrity/ import nothing but errors.ts and gen/: they also run in the CLI, the SDK and the browser", () => {
		const allowed = (imported: string, file: SourceFile) =>
			imported === "errors.ts" || imported.startsWith("gen/") || folderOf(imported) === file.folder;
		expect(
			offences(
				({ folder }) => folder === "event" || folder === "integrity",
				(imported, file) => isLocal(imported) && !allowed(imported, file),
			),
		).toEqual([]);
	});

	test("steps never import each other: server.ts joins them by passing functions", () => {
		expect(
			offences(
				({ folder }) => STEPS.includes(folder),
				(imported, file) => STEPS.includes(folderOf(imported) ?? "") && folderOf(imported) !== file.folder,
			),
		).toEqual([]);
	});

	test("storage/ knows nothing of the steps, the doors or the commands above it", () => {
		const below = ["storage", "event", "integrity", "gen", "auth"];
		expect(
			offences(
				({ folder }) => folder === "storage",
				(imported) => isLocal(imported) && folderOf(imported) !== "" && !below.includes(folderOf(imported) ?? ""),
			),
		).toEqual([]);
	});

	test("steps know nothing of the doors, the commands or the composition root", () => {
		expect(
			offences(
				({ folder }) => STEPS.includes(folder) || folder === "auth",
				(imported) =>
					["rpc", "cli", "client", "dev", "web"].includes(folderOf(imported) ?? "") || imported === "server.ts",
			),
		).toEqual([]);
	});

	test("client/ and web/ never import server folders: they run at other people's", () => {
		const allowed = ["client", "web", "gen", "event", "integrity"];
		// How NATS is reached is one thing for the service and its producers.
		const files = ["errors.ts", "nats-access.ts", "nats-connect.ts"];
		expect(
			offences(
				({ folder }) => folder === "client" || folder === "web",
				(imported) => isLocal(imported) && !files.includes(imported) && !allowed.includes(folderOf(imported) ?? ""),
			),
		).toEqual([]);
	});

	test("only rpc/ and client/ import Connect: the steps have errors of their own", () => {
		expect(
			offences(
				({ folder }) => folder !== "rpc" && folder !== "client",
				(imported) => isPackage(imported, /^@connectrpc\//),
			),
		).toEqual([]);
	});

	test("only the NATS door, dev/, client/nats and nats-connect.ts import the NATS client: it may be replaced one day", () => {
		const importers = ["client/nats.ts", "nats-connect.ts"];
		expect(
			offences(
				({ path, folder }) => !path.startsWith("ingest/nats-") && !importers.includes(path) && folder !== "dev",
				(imported) => isPackage(imported, /^(nats$|@nats-io\/)/),
			),
		).toEqual([]);
	});

	test("kysely is in query/ and the migrations only: nothing of it is on the write path", () => {
		expect(
			offences(
				({ path, folder }) => folder !== "query" && path !== "storage/migrate.ts",
				(imported) => isPackage(imported, /^kysely/),
			),
		).toEqual([]);
	});
});

describe("one place for what must be in one place", () => {
	const holders = (pattern: RegExp) =>
		files.filter(({ text }) => pattern.test(withoutComments(text))).map(({ path }) => path);

	test("only config.ts reads the environment", () => {
		expect(holders(/process\.env\b/)).toEqual(["config.ts"]);
	});

	test("only storage/db.ts has the reader's connections and names the tenant: for one transaction, which nothing of it outlives", () => {
		expect(holders(/\b(db|database)\.reader\b|set_config\(\$|\bSET\s+(SESSION\s+|LOCAL\s+)?audit\./)).toEqual([
			"storage/db.ts",
		]);
		// The rows of such a cursor, and such a setting, stay with the connection, whoever has it next.
		expect(holders(/\bWITH HOLD\b|set_config\([^)]*,\s*false\)/i)).toEqual([]);
	});

	test("only main.ts ends the process", () => {
		expect(holders(/process\.(exit|exitCode|abort)\b/).filter((path) => path !== "main.ts")).toEqual([]);
	});

	test("only rpc/errors.ts and client/ know Connect's codes", () => {
		expect(holders(/\bCode\.[A-Z]/).filter((path) => path !== "rpc/errors.ts" && !path.startsWith("client/"))).toEqual(
			[],
		);
	});
});

describe("the house", () => {
	test("no folder is a kind instead of a step, and no file is a barrel", () => {
		const kinds = /(^|\/)(utils?|helpers?|common|lib|services|repositories|models|types|interfaces)(\/|\.ts$)/;
		expect(files.map(({ path }) => path).filter((path) => kinds.test(path))).toEqual([]);
		expect(files.map(({ path }) => path).filter((path) => path.endsWith("index.ts"))).toEqual(["client/index.ts"]);
	});

	test("files are named in kebab-case for what is inside", () => {
		expect(files.map(({ path }) => path).filter((path) => !/^[a-z0-9/-]+\.tsx?$/.test(path))).toEqual([]);
	});

	test("no file has more than 400 lines, and half have at most 120", () => {
		const lines = files.map(({ path, text }) => ({ path, lines: text.split("\n").length - 1 }));
		expect(lines.filter((file) => file.lines > 400)).toEqual([]);
		const sorted = lines.map((file) => file.lines).sort((a, b) => a - b);
		expect(sorted[Math.floor(sorted.length / 2)]).toBeLessThanOrEqual(120);
	});

	test("nothing in the repository reads outside it", () => {
		const reading = /["'`](\.\.\/)+shared\/|\/work\//;
		const readers = ["test", "bench"]
			.flatMap((folder) => filesUnder(join(ROOT, folder)))
			.filter((file) => /\.(ts|sh)$/.test(file));
		expect(
			readers.filter((file) => reading.test(readFileSync(file, "utf8")) && !file.endsWith("architecture.test.ts")),
		).toEqual([]);
		expect(holdersOf(reading)).toEqual([]);
	});

	test("tests use no doubles for our own code", () => {
		const tests = filesUnder(join(ROOT, "test")).filter(
			(file) => file.endsWith(".ts") && !file.endsWith("architecture.test.ts"),
		);
		expect(
			tests.filter((file) =>
				/vi\.(mock|doMock|stubGlobal)\(|\b(it|test|describe)\.(skip|only|todo)\b/.test(readFileSync(file, "utf8")),
			),
		).toEqual([]);
	});
});

function holdersOf(pattern: RegExp): string[] {
	return files.filter(({ text }) => pattern.test(text)).map(({ path }) => path);
}

function withoutComments(text: string): string {
	return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");
}
