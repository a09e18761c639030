import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type RecordText, splitRecords } from "../../../src/cli/import/split-records.ts";

async function split(bytes: Buffer | string, chunkBytes = 7): Promise<RecordText[]> {
	const records: RecordText[] = [];
	for await (const record of splitRecords(chunked(Buffer.from(bytes as string), chunkBytes))) records.push(record);
	return records;
}

async function* chunked(bytes: Buffer, chunkBytes: number): AsyncGenerator<Buffer> {
	for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

const objects = fc.array(fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 4 }), { maxLength: 20 });

describe("one record a line", () => {
	test("records keep their line numbers; empty lines are none", async () => {
		expect(await split('{"a":1}\r\n\n  \n{"b":2}')).toEqual([
			{ place: "line 1", text: '{"a":1}\r' },
			{ place: "line 4", text: '{"b":2}' },
		]);
	});

	test("however the input is cut into chunks, the records are the same", async () => {
		await fc.assert(
			fc.asyncProperty(objects, fc.integer({ min: 1, max: 50 }), async (values, chunkBytes) => {
				const records = await split(values.map((value) => `${JSON.stringify(value)}\n`).join(""), chunkBytes);
				expect(records).toEqual(values.map((value, i) => ({ place: `line ${i + 1}`, text: JSON.stringify(value) })));
			}),
		);
	});

	test("a record longer than 1 MiB is named and skipped, the next one is not", async () => {
		const exact = `"${"x".repeat(1024 * 1024 - 2)}"`;
		const records = await split(`${exact}\nx${exact}\n{}\n`, 64 * 1024);
		expect(records[0]).toEqual({ place: "line 1", text: exact });
		expect(records[1]).toEqual({ place: "line 2", problem: expect.stringContaining("longer than 1 MiB") });
		expect(records[2]).toEqual({ place: "line 3", text: "{}" });
	});

	test("a line that is not UTF-8 is named", async () => {
		const records = await split(Buffer.concat([Buffer.from([0x22, 0xff, 0x22, 0x0a]), Buffer.from("{}")]));
		expect(records).toEqual([
			{ place: "line 1", problem: "is not UTF-8" },
			{ place: "line 2", text: "{}" },
		]);
	});

	test("nothing at all is no record", async () => {
		expect(await split("")).toEqual([]);
	});
});

describe('the form {"Records": […]}', () => {
	test("however it is written and cut into chunks, the records are the elements of the array", async () => {
		const indents = fc.constantFrom(undefined, 2, "\t");
		await fc.assert(
			fc.asyncProperty(objects, indents, fc.integer({ min: 1, max: 50 }), async (values, indent, chunkBytes) => {
				const records = await split(JSON.stringify({ Records: values }, undefined, indent), chunkBytes);
				const parsed = records.map((record) => JSON.parse("text" in record ? record.text : "null"));
				expect(parsed).toEqual(values.map((value) => JSON.parse(JSON.stringify(value))));
				expect(records.map(({ place }) => place)).toEqual(values.map((_, i) => `record ${i + 1}`));
			}),
		);
	});

	test("an array that is cut off is named after the records before the cut", async () => {
		expect(await split('{"Records":[{"a":"}]"},{"b":')).toEqual([
			{ place: "record 1", text: '{"a":"}]"}' },
			{ place: "record 2", problem: expect.stringContaining("ends before") },
		]);
	});
});
