import { expect, test } from "vitest";
import { fuzzDoors } from "../integration/bad-input/fuzz-doors.ts";
import { FUZZ_PROPERTIES } from "../support/fuzz-properties.ts";

/** 5 million made-up inputs: nine in ten for what reads them, the others through the doors of a running service. */
const INPUTS = 4_500_000;
const THROUGH_DOORS = 500_000;

test("the parts are the whole", () => {
	expect(FUZZ_PROPERTIES.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1);
});

test.each(FUZZ_PROPERTIES.map((each) => [each.name, each] as const))(
	"%s: taken and storable, or refused in proper words, and never an exception",
	async (_, { share, run }) => {
		// In pieces, so that what fast-check remembers of its runs stays small, and others get a turn.
		for (let left = INPUTS * share; left > 0; left -= PIECE) {
			run(Math.min(left, PIECE));
			await new Promise((resolve) => setImmediate(resolve));
		}
	},
	4 * 3_600_000,
);
const PIECE = 50_000;

test(
	"whatever comes in through a door of the running service gets an answer, and never an internal error",
	async () => {
		await fuzzDoors(THROUGH_DOORS);
	},
	4 * 3_600_000,
);
