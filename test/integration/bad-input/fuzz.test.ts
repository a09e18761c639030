import { test } from "vitest";
import { fuzzDoors } from "./fuzz-doors.ts";

/** With those that need no door (`unit/fuzz.test.ts`) 50,000 inputs. */
test("whatever comes in through a door of the running service gets an answer, and never an internal error", async () => {
	await fuzzDoors(5_000);
}, 240_000);
