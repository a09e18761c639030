import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Cell, type ParquetColumn, ParquetFile } from "../../../src/export/parquet-file.ts";
import { readParquet } from "../../support/read-parquet.ts";

const COLUMNS = [
	{ name: "at", type: "timestamp" },
	{ name: "id", type: "uuid" },
	{ name: "words", type: "text" },
	{ name: "hash", type: "hex" },
	{ name: "about", type: "json" },
	{ name: "version", type: "integer" },
	{ name: "batch", type: "bigint" },
] as const satisfies readonly ParquetColumn[];

type Row = readonly [at: Cell, id: Cell, words: Cell, hash: Cell, about: Cell, version: Cell, batch: Cell];

const ID = "019a3b2c-1d2e-7f40-8a5b-6c7d8e9f0a1b";
const ROW: Row = [1_795_000_000_123_456, ID, "word", "00ff", "{}", 1, "1"];
const NOTHING: Row = [undefined, undefined, undefined, undefined, undefined, undefined, undefined];

/** The file of these rows, given to it `step` at a time. */
async function fileOf(
	rows: readonly Row[],
	{ step = 1_000, metadata = {} }: { step?: number; metadata?: Record<string, string> } = {},
): Promise<Uint8Array> {
	const file = new ParquetFile(COLUMNS);
	try {
		const parts: Uint8Array[] = [];
		for (let at = 0; at < rows.length; at += step) {
			const some = rows.slice(at, at + step);
			parts.push(await file.write(COLUMNS.map((_, i) => some.map((row) => row[i]))));
		}
		parts.push(await file.end(metadata));
		return Buffer.concat(parts);
	} finally {
		await file.close();
	}
}

/** What a reader has to find. */
function expected(rows: readonly Row[]) {
	return rows.map((row) =>
		Object.fromEntries(COLUMNS.map(({ name }, i) => [name, row[i] === undefined ? null : String(row[i])])),
	);
}

const TEXTS = [
	"",
	" ",
	"Ærøskøbing, Żółć, naïve",
	"Привет, мир",
	"שלום עולם",
	"مرحبا بالعالم",
	"नमस्ते दुनिया",
	"สวัสดีชาวโลก",
	"你好，世界",
	"こんにちは世界",
	"안녕하세요",
	"👩‍👩‍👧‍👦 🏳️‍🌈 \u{10ffff}",
	"e\u0301 is not é",
	"\ufeffwith a mark",
	"\u202eright to left\u202c",
	"tab\tand\r\nlines\u2028and\u0001control",
	'=HYPERLINK("http://example.com")',
	"\ue000\ufffd\uffff",
	"x".repeat(70_000),
];

/** As canonical JSON has it: keys in the order of their UTF-16, which is not the one JavaScript gives to keys like numbers. */
const JSONS = [
	'{"10":1,"9":2,"__proto__":{"a":1},"constructor":null}',
	'{"a":1e+30,"b":0.000001,"c":-0.1,"d":9007199254740991}',
	'{"\\u0001":"\\u0007","é":"👋","":[[],{},"",null,true]}',
	"[]",
	'"text"',
	"null",
	`{"deep":${"[".repeat(30)}${"]".repeat(30)}}`,
];

describe("a Parquet file", () => {
	test("has the types that its columns are of", async () => {
		const { columns, logicalTypes, compressions, createdBy } = await readParquet(await fileOf([ROW]));
		expect(columns).toEqual([
			["at", "TIMESTAMP WITH TIME ZONE"],
			["id", "UUID"],
			["words", "VARCHAR"],
			["hash", "VARCHAR"],
			["about", "JSON"],
			["version", "BIGINT"],
			["batch", "BIGINT"],
		]);
		expect(logicalTypes["at"]).toMatch(/isAdjustedToUTC=1.*MICROS=MicroSeconds/);
		expect(logicalTypes["about"]).toContain("Json");
		expect(logicalTypes["words"]).toContain("String");
		expect(compressions).toEqual(["ZSTD"]);
		expect(createdBy).toMatch(/^auditlog version \d+\.\d+\.\d+$/);
	});

	test("has times to the microsecond, in every year that events can have", async () => {
		const times = [0, 1, -1, 999_999, 1_795_000_000_123_456, 4_102_444_799_999_999, -62_135_596_800_000_000 / 16];
		const rows = times.map((at): Row => [at, ...(ROW.slice(1) as [Cell, Cell, Cell, Cell, Cell, Cell])]);
		expect((await readParquet(await fileOf(rows))).rows.map(({ at }) => Number(at))).toEqual(times);
	});

	test("has every text as it was written, in every script", async () => {
		const rows = TEXTS.map((words): Row => [ROW[0], ID, words, "00", "{}", 1, "1"]);
		expect((await readParquet(await fileOf(rows))).rows).toEqual(expected(rows));
	});

	test("has JSON as the very text it was given", async () => {
		const rows = JSONS.map((about): Row => [ROW[0], ID, "", "00", about, 1, "1"]);
		expect((await readParquet(await fileOf(rows))).rows.map(({ about }) => about)).toEqual(JSONS);
	});

	test("tells what is not there from what is empty", async () => {
		const rows: Row[] = [ROW, NOTHING, [0, ID, "", "", '""', 0, "0"], NOTHING];
		const read = (await readParquet(await fileOf(rows))).rows;
		expect(read).toEqual(expected(rows));
		expect(read[1]?.["words"]).toBeNull();
		expect(read[2]?.["words"]).toBe("");
	});

	test("has integers beyond 2^53 exactly", async () => {
		const rows = ["9223372036854775807", "9007199254740993", "-1"].map(
			(batch): Row => [0, ID, "", "", "{}", 4_294_967_295, batch],
		);
		expect((await readParquet(await fileOf(rows))).rows).toEqual(expected(rows));
	});

	test("has the same rows in the same order, whatever they are and however they came", async () => {
		const cell = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 4 });
		const row = fc.tuple(
			cell(fc.integer({ min: -1e15, max: 4e15 })),
			cell(fc.uuid()),
			cell(fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("a", "b"))),
			cell(fc.constantFrom("00", "ff")),
			cell(fc.json()),
			cell(fc.nat()),
			cell(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)),
		);
		await fc.assert(
			fc.asyncProperty(fc.array(row, { maxLength: 200 }), fc.integer({ min: 1, max: 50 }), async (rows, step) => {
				expect((await readParquet(await fileOf(rows, { step }))).rows).toEqual(expected(rows));
			}),
			{ numRuns: 10 },
		);
	});

	test("is a file without rows where there are none", async () => {
		const { rows, columns, rowGroups } = await readParquet(await fileOf([]));
		expect({ rows, columns: columns.length, rowGroups }).toEqual({ rows: [], columns: 7, rowGroups: [] });
	});

	test("says in its footer what it was given to say", async () => {
		const metadata = { "auditlog.events": "1", "auditlog.query": '{"actions":["user.*","日本"]}' };
		expect((await readParquet(await fileOf([ROW], { metadata }))).metadata).toEqual(metadata);
	});
});

describe("row groups", () => {
	test("have 10,000 rows and what one batch has beyond it, at most", async () => {
		const rows = Array.from({ length: 25_300 }, (_, n): Row => [n, ID, `row ${n}`, "00", "{}", n, String(n)]);
		const read = await readParquet(await fileOf(rows, { step: 700 }));
		expect(read.rowGroups.map((group) => group.rows)).toEqual([10_500, 10_500, 4_300]);
		expect(read.rows).toEqual(expected(rows));
	});

	test("have 8 MiB of text and what one batch has beyond it, at most", async () => {
		const rows = Array.from(
			{ length: 100 },
			(_, n): Row => [n, ID, `${n}:${"é".repeat(250_000)}`, "00", "{}", n, String(n)],
		);
		const read = await readParquet(await fileOf(rows, { step: 4 }));
		expect(read.rowGroups.map((group) => group.rows)).toEqual([36, 36, 28]);
		expect(read.rows).toEqual(expected(rows));
	});

	test("leave the memory of the thread when they are written: there can be any number of them", async () => {
		const file = new ParquetFile(COLUMNS);
		onTestFinished(() => file.close());
		// Ten times what the thread may have.
		const words = Array.from({ length: 20 }, (_, n) => `${n}${"x".repeat(200_000)}`);
		const cells = COLUMNS.map((_, i) => words.map((text) => (i === 2 ? text : ROW[i])));
		let bytes = 0;
		for (let n = 0; n < 160; n += 1) bytes += (await file.write(cells)).byteLength;
		expect(bytes).toBeGreaterThan(0);
	});
});

describe("the thread", () => {
	test("fails the file it could not write, and nothing else", async () => {
		const file = new ParquetFile(COLUMNS);
		onTestFinished(() => file.close());
		await file.write(COLUMNS.map(({ name }, i) => [name === "id" ? "no UUID" : ROW[i]]));
		await expect(file.end({})).rejects.toThrow("UUID");
		await expect(file.end({})).rejects.toThrow("UUID");
	});

	test("ends in the middle of a file when it is closed", async () => {
		const file = new ParquetFile(COLUMNS);
		await file.write(COLUMNS.map((_, i) => [ROW[i]]));
		await file.close();
		await expect(file.end({})).rejects.toThrow("has ended");
	}, 20_000);
});
