import { describe, expect, test } from "vitest";
import { parseExactJson } from "../../../src/cli/import/exact-json.ts";

describe("reading JSON without losing anything", () => {
	test("numbers that would be rounded come as texts of their digits", () => {
		const text = '{"big":12345678901234567890,"huge":1e400,"list":[9007199254740993],"fits":9007199254740991,"f":0.1}';
		expect(parseExactJson(text)).toEqual({
			big: "12345678901234567890",
			huge: "1e400",
			list: ["9007199254740993"],
			fits: 9007199254740991,
			f: 0.1,
		});
	});

	test("a name given twice is an error, because one of its values would be lost", () => {
		expect(() => parseExactJson('{"a":{"b":1,"b":2}}')).toThrow('has a name twice: "a.b"');
	});

	test("what is wrong is said without repeating the text", () => {
		expect(() => parseExactJson('{"password": hunter2}')).toThrow(/^is not valid JSON$/);
		expect(() => parseExactJson('{"password": "hunter2')).toThrow(/^is not valid JSON \(at position 21\)$/);
		expect(() => parseExactJson("[]")).toThrow("is not a JSON object");
		expect(() => parseExactJson("null")).toThrow("is not a JSON object");
	});
});
