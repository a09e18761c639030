import type { Command } from "commander";
import { migrate } from "../storage/migrate.ts";
import { type CommandLine, print } from "./command-line.ts";
import { asDatabaseErrors } from "./database-error.ts";
import { addExamples } from "./examples.ts";
import { readDatabaseSettings } from "./settings.ts";

/** `auditlog migrate`: brings the database to this version's schema. */
export function migrateDatabase(command: Command, commandLine: CommandLine): void {
	command
		.addHelpText(
			"after",
			`
Needs DATABASE_URL, with a user that may create roles, and AUDIT_SECRET. Safe to repeat and to run from several places
at once; the service goes on meanwhile.`,
		)
		.action(async () => {
			const { databaseUrl, secret } = readDatabaseSettings(commandLine.env);
			const migration = await asDatabaseErrors(() => migrate({ databaseUrl, secret }));
			await print(commandLine.stdout, migrationText(migration));
		});
	addExamples(
		command,
		["what DATABASE_URL names, else what the `make run` that runs here uses", "auditlog migrate"],
		["before the service starts", "auditlog migrate && auditlog config > /dev/null && echo ready"],
	);
}

export function migrationText({ applied }: { applied: string[] }): string {
	return applied.length > 0 ? `applied ${applied.join(", ")}\n` : "the database is up to date\n";
}
