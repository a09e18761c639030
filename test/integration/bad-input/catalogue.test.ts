import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BATCHES } from "./batch-rows.ts";
import { CALLERS } from "./caller-rows.ts";
import { CONTENT } from "./event-rows.ts";
import { LIMITS } from "./limit-rows.ts";
import { NATS } from "./nats-rows.ts";
import { ADAPTED, ELSEWHERE, NOT_YET } from "./places.ts";
import { READS } from "./read-rows.ts";
import { TRANSPORT } from "./transport-rows.ts";
import { UNREADABLE } from "./unreadable-rows.ts";

/**
 * The catalogue of bad input has 118 rows: 1–33 transport and framing, 34–48 who is calling, 49–88 events and batches,
 * 89–105 questions, 106–118 what goes out and what comes by NATS. The tables beside this file hold the inputs.
 */

const TABLES = [UNREADABLE, CONTENT, LIMITS, TRANSPORT, CALLERS, BATCHES, READS, NATS];
const inTables = new Set(TABLES.flatMap((table) => table.map(({ row }) => row)));

test("every row is in the tables, in another test, or about what does not exist, and in one of these only", () => {
	const places = [...inTables, ...Object.keys(ELSEWHERE).map(Number), ...Object.keys(NOT_YET).map(Number)];
	expect(places.sort((a, b) => a - b)).toEqual(Array.from({ length: 118 }, (_, i) => i + 1));
});

test("what is adapted to the contract is in the tables", () => {
	expect(Object.keys(ADAPTED).filter((row) => !inTables.has(Number(row)))).toEqual([]);
});

test.each(Object.entries(ELSEWHERE))("row %s is where it is said to be", (_, [file, name]) => {
	expect(readFileSync(join(import.meta.dirname, "..", file), "utf8")).toContain(name);
});
