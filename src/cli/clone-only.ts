import { existsSync } from "node:fs";
import { join } from "node:path";
import type * as Dev from "../dev/dev.ts";
import { CommandError } from "./command-line.ts";

/**
 * Loads what only a clone has: the package comes without `dev/`, and without the PostgreSQL it starts.
 *
 * @throws CommandError saying where the command works
 */
export async function loadDev(): Promise<typeof Dev> {
	if (!existsSync(join(import.meta.dirname, "../dev"))) {
		throw new CommandError(
			"this command is for a clone of the project: run `make run` there. The package has no PostgreSQL of its own: " +
				"give `auditlog migrate` and `auditlog serve` a DATABASE_URL",
		);
	}
	return await import("../dev/dev.ts");
}
