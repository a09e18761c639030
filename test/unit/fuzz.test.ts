import { test } from "vitest";
import { FUZZ_PROPERTIES } from "../support/fuzz-properties.ts";

/** Together with those that go through the doors (`integration/bad-input/fuzz.test.ts`) 50,000 inputs; `test/long` has more. */
const INPUTS = 45_000;

test.each(FUZZ_PROPERTIES.map((each) => [each.name, each] as const))(
	"%s: taken and storable, or refused in proper words, and never an exception",
	(_, { share, run }) => run(INPUTS * share),
	60_000,
);
