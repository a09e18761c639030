import { defineConfig } from "vitest/config";
import { noSkippedTests } from "./test/support/no-skipped-tests.ts";

// `--mode static` is for tests that read the source alone: no database is started for them. `--mode long` runs what takes
// too long for every change, `--mode portability` what needs software that only test/portability/run.ts fetches.
const APART = ["long", "portability"];

export default defineConfig(({ mode }) => ({
	test: {
		include: APART.includes(mode) ? [`test/${mode}/**/*.test.ts`] : ["test/**/*.test.ts"],
		exclude: APART.includes(mode) ? [] : APART.map((folder) => `test/${folder}/**`),
		globalSetup: mode === "static" ? [] : ["test/global-setup.ts"],
		pool: "forks",
		maxWorkers: 2,
		testTimeout: mode === "long" ? 600_000 : 120_000,
		hookTimeout: mode === "portability" ? 300_000 : 120_000,
		allowOnly: false,
		reporters: ["default", noSkippedTests],
	},
}));
