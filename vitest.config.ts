import { defineConfig } from "vitest/config";
import { noSkippedTests } from "./test/support/no-skipped-tests.ts";

// `--mode static` is for tests that read the source alone: no database is started for them. `--mode long` runs what takes
// too long for every change.
export default defineConfig(({ mode }) => ({
	test: {
		include: mode === "long" ? ["test/long/**/*.test.ts"] : ["test/**/*.test.ts"],
		exclude: mode === "long" ? [] : ["test/long/**"],
		globalSetup: mode === "static" ? [] : ["test/global-setup.ts"],
		pool: "forks",
		maxWorkers: 2,
		testTimeout: mode === "long" ? 600_000 : 60_000,
		hookTimeout: 60_000,
		allowOnly: false,
		reporters: ["default", noSkippedTests],
	},
}));
