import { expect, test } from "vitest";
import { parseOrigins } from "../../../src/rpc/network-settings.ts";

test("origins are exact, as browsers send them", () => {
	expect(parseOrigins("https://a.example, http://localhost:5173,http://[::1]:8080")).toEqual([
		"https://a.example",
		"http://localhost:5173",
		"http://[::1]:8080",
	]);
});

test.each(
	["*", "null", "https://*.a.example", "https://a.example/", "https://a.example/x", "https://a.example:443"].concat([
		"https://A.example",
		"https://u@a.example",
		"a.example",
		"ftp://a.example",
		"https://a.example,",
		"https://",
	]),
)("%s is none", (text) => {
	expect(() => parseOrigins(text)).toThrow(/^must be origins/);
});
