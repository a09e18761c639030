import type { Command } from "commander";
import { deriveKeys, rolePassword } from "../auth/secret.ts";
import { LOGIN_ROLES, type Migrated, migrate } from "../storage/migrate.ts";
import { type CommandLine, print } from "./command-line.ts";
import { asDatabaseErrors } from "./database-error.ts";
import { addExamples } from "./examples.ts";
import { readDatabaseSettings } from "./settings.ts";

/** `auditlog migrate`: brings the database to this version's schema. */
export function migrateDatabase(command: Command, commandLine: CommandLine): void {
	command
		.option("--pooler-users", "print the service's roles and passwords, as a pooler's userlist.txt has them")
		.addHelpText(
			"after",
			`
Needs AUDIT_SECRET and DATABASE_URL, with a superuser, or a user that has CREATEROLE and may create in the database.
Safe to repeat and to run from several places at once; the service goes on meanwhile.

Only \`serve\` and \`verify\` may reach PostgreSQL through a pooler, and that one has to know the roles:
  auditlog migrate --pooler-users > userlist.txt`,
		)
		.action(async (options: { poolerUsers?: true }) => {
			const { databaseUrl, secret } = readDatabaseSettings(commandLine.env);
			const text = migrationText(await asDatabaseErrors(() => migrate({ databaseUrl, secret })));
			await print(options.poolerUsers ? commandLine.stderr : commandLine.stdout, text);
			if (options.poolerUsers) await print(commandLine.stdout, poolerUsers(secret));
		});
	addExamples(
		command,
		["what DATABASE_URL names, else what the `make run` that runs here uses", "auditlog migrate"],
		["before the service starts", "auditlog migrate && auditlog config > /dev/null && echo ready"],
	);
}

/** PgBouncer's userlist.txt. The passwords are letters, digits, - and _: there is nothing to quote. */
function poolerUsers(secret: string): string {
	const keys = deriveKeys(secret);
	return LOGIN_ROLES.map((role) => `"${role}" "${rolePassword(keys, role)}"\n`).join("");
}

export function migrationText({ applied, notes }: Migrated): string {
	const done = applied.length > 0 ? `applied ${applied.join(", ")}` : "the database is up to date";
	return `${[done, ...notes.map((note) => `note: ${note}`)].join("\n")}\n`;
}
