import { type Command, Option } from "commander";
import pg from "pg";
import { createApiKey } from "../auth/api-keys.ts";
import type { Role } from "../auth/principal.ts";
import { deriveKeys } from "../auth/secret.ts";
import { isTenantId } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import { type CommandLine, print, UsageError } from "./command-line.ts";
import { readDatabaseSettings } from "./settings.ts";

const ROLES: readonly Role[] = ["writer", "reader", "operator"];

/** `auditlog key …`: API keys, straight against the database, because the first one cannot come from the service. */
export function key(command: Command, commandLine: CommandLine): void {
	command
		.command("create")
		.description("make an API key and print it, once")
		.addOption(new Option("--role <role>", "what the key may do").choices(ROLES).makeOptionMandatory())
		.option("--tenant <id...>", "the tenants it is good for")
		.option("--all-tenants", "good for every tenant")
		.requiredOption("--name <name>", "what it is for, for people")
		.addHelpText(
			"after",
			`
Needs DATABASE_URL and AUDIT_SECRET, or the \`make run\` that ran here. Only the key goes to standard output:
  AUDIT_KEY=$(auditlog key create --role writer --tenant acme --name "billing service")
A writer writes, a reader queries, an operator does both.`,
		)
		.action(async (options: CreateOptions) => {
			const tenants = tenantsOf(options);
			const { databaseUrl, secret } = readDatabaseSettings(commandLine.env);
			const client = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: 10_000 });
			await client.connect();
			try {
				const spec = { name: options.name, role: options.role, tenants };
				await print(commandLine.stdout, `${await createApiKey(client, deriveKeys(secret), spec)}\n`);
			} finally {
				await client.end();
			}
		});
}

interface CreateOptions {
	role: Role;
	name: string;
	tenant?: string[];
	allTenants?: true;
}

function tenantsOf({ tenant, allTenants }: CreateOptions): TenantId[] | "all" {
	if (!tenant === !allTenants) throw new UsageError("give --tenant or --all-tenants");
	if (!tenant) return "all";
	const good = tenant.filter(isTenantId);
	if (good.length < tenant.length) throw new UsageError("a tenant id is 1 to 128 of A-Z a-z 0-9 . _ : -");
	return good;
}
