import { Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import type { CommandLine } from "../../../src/cli/command-line.ts";
import { painter } from "../../../src/cli/output/colour.ts";
import { csvLine } from "../../../src/cli/output/csv.ts";
import { FORMATS, type Format, type Listing, ListOutput } from "../../../src/cli/output/listing.ts";
import { jsonText } from "../../../src/cli/output/printable.ts";

describe("CSV", () => {
	test("is quoted where RFC 4180 asks for it, and nowhere else", () => {
		expect(csvLine(["plain", 'say "hi"', "a,b", "two\r\nlines", "", " x"])).toBe(
			'plain,"say ""hi""","a,b","two\r\nlines",," x"\r\n',
		);
	});

	test.each(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "＠x"])(
		"%j is no formula for a spreadsheet",
		(value) => {
			expect(csvLine([value]).replace(/^"/, "")[0]).toBe("'");
		},
	);

	test("what is no formula is left as it is", () => {
		for (const value of ["a=b", "1-1", "user@example.com", "'x", "2026-01-31T12:00:00Z"]) {
			expect(csvLine([value])).toBe(`${value}\r\n`);
		}
	});

	test("control characters and reversed text do not get in", () => {
		expect(csvLine(["\u001b[2J\u009bx\u202ey"])).toBe("\ufffd[2J\ufffdx\ufffdy\r\n");
	});
});

describe("JSON", () => {
	test("says the same to a program and cannot steer a terminal", () => {
		const value = { "\u009bkey": "\u001b[2J\u202e\u2028\u007f\u0085", list: ["é", "山", "👩‍👧"] };
		for (const indent of [0, 2]) {
			const text = jsonText(value, indent);
			expect(JSON.parse(text)).toEqual(value);
			expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\u202e\u2028]/u);
		}
		expect(jsonText(value)).toContain("👩‍👧");
	});
});

interface Thing {
	name: string;
}

const THINGS: Listing<Thing> = {
	nothing: "no things",
	table: { columns: [{ title: "NAME", text: ({ name }) => name }] },
	csv: [{ name: "name", text: ({ name }) => name }],
	json: ({ name }) => ({ name }),
};

async function printed(format: Format, pages: string[][]): Promise<string> {
	let text = "";
	const stdout = new Writable({
		write(chunk, _, done) {
			text += String(chunk);
			done();
		},
	});
	const commandLine = { env: {}, stdout } as unknown as CommandLine;
	const output = new ListOutput(THINGS, format, commandLine);
	for (const page of pages) await output.write(page.map((name) => ({ name })));
	await output.end();
	return text;
}

describe("a list in each format", () => {
	test("pages join to one table, document or file", async () => {
		const pages = [["a", "b"], [], ["c"]];
		expect(await printed("table", pages)).toBe("NAME\na\nb\nc\n");
		expect(await printed("csv", pages)).toBe("name\r\na\r\nb\r\nc\r\n");
		expect(await printed("ndjson", pages)).toBe('{"name":"a"}\n{"name":"b"}\n{"name":"c"}\n');
		expect(JSON.parse(await printed("json", pages))).toEqual([{ name: "a" }, { name: "b" }, { name: "c" }]);
	});

	test("an empty list is one, too", async () => {
		const texts = await Promise.all(FORMATS.map((format) => printed(format, [[]])));
		expect(texts).toEqual(["no things\n", "[]\n", "", "name\r\n"]);
	});
});

describe("colour", () => {
	test.each([
		["a terminal has colour", true, {}, undefined, true],
		["a pipe has none", false, {}, undefined, false],
		["NO_COLOR takes it from a terminal", true, { NO_COLOR: "1" }, undefined, false],
		["an empty NO_COLOR says nothing", true, { NO_COLOR: "" }, undefined, true],
		["FORCE_COLOR gives it to a pipe", false, { FORCE_COLOR: "1" }, undefined, true],
		["FORCE_COLOR=0 takes it from a terminal", true, { FORCE_COLOR: "0" }, undefined, false],
		["a dumb terminal has none", true, { TERM: "dumb" }, undefined, false],
		["--no-color is above all", true, { FORCE_COLOR: "1" }, true, false],
	] as const)("%s", (_, isTTY, env, noColour, expected) => {
		const stdout = Object.assign(new Writable(), { isTTY });
		const paint = painter({ env, stdout, noColour } as unknown as CommandLine);
		expect(paint("red", "x") !== "x").toBe(expected);
	});
});
