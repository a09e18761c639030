import type { Command } from "commander";
import { Option } from "commander";
import { KEY_KEPT_MS } from "../auth/api-key-verifier.ts";
import { type ApiKeyInfo, createApiKey, listApiKeys, revokeApiKey } from "../auth/api-keys.ts";
import { ROLES, type Role } from "../auth/principal.ts";
import { isTenantId } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import { CommandError, type CommandLine, print, UsageError } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { type Format, type Listing, outputOption, printList } from "./output/listing.ts";
import { printable } from "./output/printable.ts";
import { asOwner } from "./owner.ts";

const NEEDS = "Needs DATABASE_URL and AUDIT_SECRET, or the `make run` that runs here.";
const STILL_GOOD = `up to ${KEY_KEPT_MS / 1000} seconds`;

/** `auditlog key …`: API keys, straight against the database, because the first one cannot come from the service. */
export function key(command: Command, commandLine: CommandLine): void {
	defineCreate(command.command("create"), commandLine);
	defineList(command.command("list"), commandLine);
	defineRevoke(command.command("revoke"), commandLine);
	addExamples(
		command,
		["the keys there are; their secrets are not stored", "auditlog key list"],
		[
			"a key for a backend that only writes",
			'auditlog key create --role writer --tenant globex --name "billing service"',
		],
	);
}

function defineCreate(command: Command, commandLine: CommandLine): void {
	command
		.description("make an API key and print it, once")
		.addOption(new Option("--role <role>", "what the key may do").choices(ROLES).makeOptionMandatory())
		.option("--tenant <id...>", "the tenants it is good for")
		.option("--all-tenants", "good for every tenant")
		.requiredOption("--name <name>", "what it is for, for people")
		.addHelpText(
			"after",
			`
A writer writes; a reader searches, an exporter exports too, an auditor searches with personal data masked; a tenant_admin
also manages its tenants' keys; an operator does everything. Only the key goes to standard output; what is stored is a keyed
hash, so it cannot be had again. ${NEEDS}`,
		)
		.action(async (options: CreateOptions) => {
			const spec = { name: options.name, role: options.role, tenants: tenantsOf(options) };
			const made = await asOwner(commandLine.env, ({ admin, keys }) => createApiKey(admin, keys, spec));
			await print(commandLine.stdout, `${made}\n`);
		});
	addExamples(
		command,
		[
			"for a backend that writes events of one tenant",
			'auditlog key create --role writer --tenant globex --name "billing service"',
		],
		["for an auditor who reads two tenants", "auditlog key create --role reader --tenant globex acme --name auditor"],
		["for this shell", 'export AUDIT_KEY=$(auditlog key create --role operator --all-tenants --name "my own")'],
	);
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

export const KEYS: Listing<ApiKeyInfo> = {
	nothing: "no keys; `auditlog key create` makes one",
	table: {
		columns: [
			{ title: "ID", text: ({ id }) => id },
			{ title: "ROLE", text: ({ role }) => role },
			{ title: "TENANTS", text: ({ tenants }) => (tenants === "all" ? "every tenant" : tenants.join(" ")), least: 12 },
			{ title: "NAME", text: ({ name }) => name, least: 12 },
			{ title: "CREATED", text: ({ createdAt }) => createdAt.toISOString() },
		],
		leftOut: [["CREATED"]],
	},
	csv: [
		{ name: "id", text: ({ id }) => id },
		{ name: "role", text: ({ role }) => role },
		{ name: "tenant_ids", text: ({ tenants }) => (tenants === "all" ? "*" : tenants.join(" ")) },
		{ name: "name", text: ({ name }) => name },
		{ name: "created_at", text: ({ createdAt }) => createdAt.toISOString() },
	],
	json: ({ id, role, tenants, name, createdAt }) => {
		const bound = tenants === "all" ? { all_tenants: true } : { all_tenants: false, tenant_ids: tenants };
		return { id, role, ...bound, name, created_at: createdAt.toISOString() };
	},
};

function defineList(command: Command, commandLine: CommandLine): void {
	command
		.description("show the keys there are, without their secrets")
		.addOption(outputOption())
		.addHelpText("after", `\n${NEEDS}`)
		.action(async ({ output }: { output: Format }) => {
			const found = await asOwner(commandLine.env, ({ admin }) => listApiKeys(admin));
			await printList(KEYS, found, output, commandLine);
		});
	addExamples(
		command,
		["every key, oldest first", "auditlog key list"],
		["the ids of the keys that may do everything", "auditlog key list -o csv | grep ,operator, | cut -d, -f1"],
	);
}

function defineRevoke(command: Command, commandLine: CommandLine): void {
	command
		.description("take keys away for good")
		.argument("<key...>", "ids of keys, or the keys themselves as they were found")
		.addHelpText(
			"after",
			`
A running service looks a key up anew after ${STILL_GOOD}: it may still take a revoked one for that long.
What the key wrote stays. ${NEEDS}`,
		)
		.action(async (given: string[]) => {
			const ids = given.map(idOf);
			await asOwner(commandLine.env, async ({ admin }) => {
				for (const id of ids) {
					const name = await revokeApiKey(admin, id);
					if (name === undefined)
						throw new CommandError(`there is no key ${id}; \`auditlog key list\` shows those there are`);
					await print(
						commandLine.stdout,
						`revoked ${id} (${printable(name)}); the service may take it for ${STILL_GOOD} more\n`,
					);
				}
			});
		});
	addExamples(
		command,
		["a key to be taken away", "KEY=$(auditlog key create --role reader --tenant globex --name temporary)"],
		["a key that turned up where it should not be", 'auditlog key revoke "$KEY"'],
	);
}

/** `al_<id>_<secret>`, or its beginning, or the id alone: whoever finds a key must not have to take it apart. */
function idOf(text: string): string {
	const [, id] = /^(?:al_)?([0-9a-f]{12})(?:_[0-9a-f]*)?$/.exec(text) ?? [];
	if (!id) throw new UsageError("a key is named by its id, 12 hexadecimal digits as `auditlog key list` shows them");
	return id;
}
