import { create as message } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import { MASKABLE_UNITS, ROLES } from "../../auth/principal.ts";
import { isTenantId } from "../../event/admit.ts";
import { CreateApiKeyRequestSchema, RoleSchema } from "../../gen/audit/v1/access_service_pb.ts";
import { UnitSchema } from "../../gen/audit/v1/event_pb.ts";
import { type CommandLine, print, UsageError } from "../command-line.ts";
import { parseWord } from "../enum-words.ts";
import { addExamples } from "../examples.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { parseTimeAhead } from "../time-option.ts";
import { goesByService, WAYS, withAccess } from "./access.ts";

interface CreateOptions extends AddressOptions {
	role: string;
	name: string;
	tenant?: string[];
	allTenants?: true;
	expires?: string;
	mask?: string[];
}

/** `auditlog key create` */
export function create(command: Command, commandLine: CommandLine): void {
	command
		.description("make an API key and print it, once")
		.addOption(new Option("--role <role>", "what the key may do").choices(ROLES).makeOptionMandatory())
		.option("--tenant <id...>", "the tenants it is good for; default: the one that your own key is bound to")
		.option("--all-tenants", "good for every tenant")
		.requiredOption("--name <name>", "what it is for, for people")
		.option("--expires <time>", "good until then: RFC 3339, a date, or how long from now (24h, 90d); default: for ever")
		.addOption(new Option("--mask <unit...>", "parts of events that it does not see").choices(MASKABLE_UNITS));
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
A writer writes; a reader searches, an exporter exports too, an auditor searches with personal data masked; a tenant_admin
also manages its tenants' keys; an operator does everything. Only the key goes to standard output; what is stored is a keyed
hash, so it cannot be had again.

${WAYS}`,
		)
		.action((options: CreateOptions) => run(commandLine, options));
	addExamples(
		command,
		[
			"for a backend that writes events of one tenant",
			'auditlog key create --role writer --tenant globex --name "billing service"',
		],
		[
			"for an auditor who reads two tenants for three months",
			"auditlog key create --role auditor --tenant globex acme --name auditor --expires 90d",
		],
		[
			"for support staff who need not see what changed",
			"auditlog key create --role reader --tenant globex --name support --mask changes metadata",
		],
		["for this shell", 'export AUDIT_KEY=$(auditlog key create --role operator --all-tenants --name "my own")'],
	);
}

async function run(commandLine: CommandLine, options: CreateOptions): Promise<void> {
	const { name, role, tenant = [], allTenants = false, expires, mask = [] } = options;
	if (tenant.length > 0 && allTenants) throw new UsageError("give --tenant or --all-tenants");
	if (tenant.length === 0 && !allTenants && !goesByService(commandLine, options)) {
		throw new UsageError("give --tenant or --all-tenants");
	}
	if (!tenant.every(isTenantId)) throw new UsageError("a tenant id is 1 to 128 of A-Z a-z 0-9 . _ : -");
	const request = message(CreateApiKeyRequestSchema, {
		name,
		role: parseWord(RoleSchema, "--role", role),
		tenantIds: [...new Set(tenant)],
		allTenants,
		maskedUnits: [...new Set(mask)].map((unit) => parseWord(UnitSchema, "--mask", unit)),
		...(expires !== undefined && { expiresAt: parseTimeAhead("--expires", expires, Date.now()) }),
	});
	const { secret } = await withAccess(commandLine, options, (access) => access.create(request));
	await print(commandLine.stdout, `${secret}\n`);
}
