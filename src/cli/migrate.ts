import type { Command } from "commander";
import { type Migrated, migrate } from "../storage/migrate.ts";
import { type CommandLine, print } from "./command-line.ts";
import { readDatabaseSettings } from "./settings.ts";

/** `auditlog migrate`: brings the database to this version's schema. */
export function migrateDatabase(command: Command, commandLine: CommandLine): void {
	command
		.addHelpText(
			"after",
			`
Needs AUDIT_SECRET and DATABASE_URL, with a superuser, or a user that has CREATEROLE and may create in the database. Safe to repeat and to run from several places
at once; the service goes on meanwhile.`,
		)
		.action(async () => {
			const { databaseUrl, secret } = readDatabaseSettings(commandLine.env);
			await print(commandLine.stdout, migrationText(await migrate({ databaseUrl, secret })));
		});
}

export function migrationText({ applied, notes }: Migrated): string {
	const done = applied.length > 0 ? `applied ${applied.join(", ")}` : "the database is up to date";
	return `${[done, ...notes.map((note) => `note: ${note}`)].join("\n")}\n`;
}
