import type { Reporter } from "vitest/node";

/**
 * Fails a run in which a test was skipped or left to do: what is not run proves nothing. Runs that were asked for some
 * tests only (`-t`) skip the others on purpose.
 */
export const noSkippedTests: Reporter = {
	onTestRunEnd(modules) {
		const skipped = modules.flatMap((module) => {
			if (module.project.config.testNamePattern) return [];
			return [...module.children.allTests("skipped")].map((test) => `${module.moduleId} > ${test.fullName}`);
		});
		if (skipped.length === 0) return;
		process.stderr.write(`\nA skipped test is a failure:\n  ${skipped.join("\n  ")}\n`);
		process.exitCode = 1;
	},
};
