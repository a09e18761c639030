import type { Command } from "commander";
import { isTenantId } from "../event/admit.ts";
import { LIMITS } from "../event/limits.ts";
import { faultOfText } from "../event/text.ts";
import { createLogger } from "../logger.ts";
import { openDatabase } from "../storage/db.ts";
import { listTenants, type TenantInfo } from "../storage/list-tenants.ts";
import { Partitions } from "../storage/partitions.ts";
import { ServiceLog } from "../storage/service-log.ts";
import { Tenants } from "../storage/tenants.ts";
import { type CommandLine, print, UsageError } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { type Format, type Listing, outputOption, printList } from "./output/listing.ts";
import { asOwner, type Owner } from "./owner.ts";

const NEEDS = "Needs DATABASE_URL and AUDIT_SECRET, or the `make run` that runs here.";

/** `auditlog tenant …`: the tenants there are, straight against the database. */
export function tenant(command: Command, commandLine: CommandLine): void {
	defineCreate(command.command("create"), commandLine);
	defineList(command.command("list"), commandLine);
	addExamples(
		command,
		["a tenant, and the first event of its log", 'auditlog tenant create acme --name "Acme, Inc."'],
		["those there are", "auditlog tenant list"],
	);
}

function defineCreate(command: Command, commandLine: CommandLine): void {
	command
		.description("make a tenant and the first event of its log, audit.log.created")
		.argument("<id>", "1 to 128 of A-Z a-z 0-9 . _ : -; it cannot be changed or taken away")
		.option("--name <name>", "what people call it; as the id if it is left out")
		.addHelpText("after", `\nA tenant that exists is left as it is. ${NEEDS}`)
		.action(async (id: string, { name = id }: { name?: string }) => {
			if (!isTenantId(id)) throw new UsageError("a tenant id is 1 to 128 of A-Z a-z 0-9 . _ : -");
			const fault = name === "" ? "must not be empty" : faultOfText(name, LIMITS.nameBytes);
			if (fault) throw new UsageError(`--name ${fault}`);
			const isNew = await asOwner(commandLine.env, (owner) =>
				withTenants(owner, async (tenants) => {
					if (await tenants.exists(id)) return false;
					await tenants.create(id, name);
					return true;
				}),
			);
			await print(commandLine.stdout, isNew ? `created ${id}\n` : `${id} exists; nothing was changed\n`);
		});
	addExamples(
		command,
		["with the name people know it by", 'auditlog tenant create acme --name "Acme, Inc."'],
		["again: nothing is changed", "auditlog tenant create acme"],
	);
}

/** As the service's own roles, which alone may write the first event. */
async function withTenants<T>({ databaseUrl, keys }: Owner, use: (tenants: Tenants) => Promise<T>): Promise<T> {
	const db = openDatabase({ databaseUrl, keys, logger: createLogger("silent") });
	try {
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		// The chain's head reaches NATS with the next batch of the service.
		return await use(
			new Tenants({
				db,
				log: new ServiceLog({ db, partitions: new Partitions(db), ...hashing, onAppended: () => {} }),
			}),
		);
	} finally {
		await db.close();
	}
}

export const TENANTS: Listing<TenantInfo> = {
	nothing: "no tenants; `auditlog tenant create` makes one",
	table: {
		columns: [
			{ title: "ID", text: ({ id }) => id, least: 12 },
			{ title: "NAME", text: ({ name }) => name, least: 12 },
			{ title: "CREATED", text: ({ createdAt }) => createdAt.toISOString() },
		],
	},
	csv: [
		{ name: "id", text: ({ id }) => id },
		{ name: "name", text: ({ name }) => name },
		{ name: "created_at", text: ({ createdAt }) => createdAt.toISOString() },
	],
	json: ({ id, name, createdAt }) => ({ id, name, created_at: createdAt.toISOString() }),
};

function defineList(command: Command, commandLine: CommandLine): void {
	command
		.description("show the tenants there are")
		.addOption(outputOption())
		.addHelpText("after", `\n${NEEDS}`)
		.action(async ({ output }: { output: Format }) => {
			const found = await asOwner(commandLine.env, ({ admin }) => listTenants(admin));
			await printList(TENANTS, found, output, commandLine);
		});
	addExamples(
		command,
		["every tenant, oldest first", "auditlog tenant list"],
		["how many there are", "auditlog tenant list -o ndjson | wc -l"],
	);
}
