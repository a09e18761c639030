import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { isTenantId } from "../../event/admit.ts";
import { microsOf, rfc3339 } from "../../event/time.ts";
import {
	type ApiKey,
	ApiKeySchema,
	ListApiKeysRequestSchema,
	RoleSchema,
} from "../../gen/audit/v1/access_service_pb.ts";
import { UnitSchema } from "../../gen/audit/v1/event_pb.ts";
import { restJson } from "../../rpc/rest-json.ts";
import { type CommandLine, UsageError } from "../command-line.ts";
import { wordFor } from "../enum-words.ts";
import { addExamples } from "../examples.ts";
import { type Format, type Listing, ListOutput, outputOption } from "../output/listing.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { WAYS, withAccess } from "./access.ts";

interface ListOptions extends AddressOptions {
	tenant?: string;
	all?: boolean;
	output: Format;
}

/** The service answers with no more keys at once. */
const LARGEST_PAGE = 200;

/** `auditlog key list` */
export function list(command: Command, commandLine: CommandLine): void {
	command
		.description("show the keys that work, the newest first, without their secrets")
		.option("-t, --tenant <id>", "only keys that are good for this tenant")
		.option("--all", "also those that were revoked or have expired")
		.addOption(outputOption());
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
A key was last used when the list says, to about a minute. docs/cli.md names the columns of CSV.

${WAYS}`,
		)
		.action((options: ListOptions) => run(commandLine, options));
	addExamples(
		command,
		["every key that works, newest first", "auditlog key list"],
		["all that were ever good for one tenant", "auditlog key list --tenant globex --all"],
		["the ids of the keys that may do everything", "auditlog key list -o csv | grep ,operator, | cut -d, -f1"],
	);
}

async function run(
	commandLine: CommandLine,
	{ tenant = "", all = false, output, ...address }: ListOptions,
): Promise<void> {
	if (tenant !== "" && !isTenantId(tenant)) throw new UsageError("a tenant id is 1 to 128 of A-Z a-z 0-9 . _ : -");
	const printed = new ListOutput(KEYS, output, commandLine);
	await withAccess(commandLine, address, async (access) => {
		const request = create(ListApiKeysRequestSchema, {
			tenantId: tenant,
			includeInactive: all,
			pageSize: LARGEST_PAGE,
		});
		do {
			const { keys, nextPageToken } = await access.list(request);
			await printed.write(keys);
			request.pageToken = nextPageToken;
		} while (request.pageToken !== "");
	});
	await printed.end();
}

/** How keys are printed. docs/cli.md names the CSV columns. */
export const KEYS: Listing<ApiKey> = {
	nothing: "no keys; `auditlog key create` makes one",
	table: {
		columns: [
			{ title: "ID", text: ({ id }) => id },
			{ title: "STATE", text: stateOf, style: (key) => (isGood(key) ? undefined : "red") },
			{ title: "ROLE", text: ({ role }) => wordFor(RoleSchema, role) },
			{ title: "TENANTS", text: (key) => (key.allTenants ? "every tenant" : key.tenantIds.join(" ")), least: 12 },
			{ title: "NAME", text: ({ name }) => name, least: 12 },
			{ title: "EXPIRES", text: ({ expiresAt }) => secondOf(expiresAt) || "never" },
			{ title: "LAST USED", text: ({ lastUsedAt }) => secondOf(lastUsedAt) || "never" },
			{ title: "CREATED", text: ({ createdAt }) => secondOf(createdAt) },
		],
		leftOut: [["CREATED"], ["CREATED", "EXPIRES"], ["CREATED", "EXPIRES", "LAST USED"]],
	},
	csv: [
		{ name: "id", text: ({ id }) => id },
		{ name: "role", text: ({ role }) => wordFor(RoleSchema, role) },
		{ name: "tenant_ids", text: (key) => (key.allTenants ? "*" : key.tenantIds.join(" ")) },
		{ name: "name", text: ({ name }) => name },
		{ name: "created_at", text: ({ createdAt }) => timeText(createdAt) },
		{ name: "state", text: stateOf },
		{ name: "expires_at", text: ({ expiresAt }) => timeText(expiresAt) },
		{ name: "last_used_at", text: ({ lastUsedAt }) => timeText(lastUsedAt) },
		{ name: "revoked_at", text: ({ revokedAt }) => timeText(revokedAt) },
		{ name: "masked_units", text: ({ maskedUnits }) => maskedUnits.map((unit) => wordFor(UnitSchema, unit)).join(" ") },
		{ name: "identity", text: ({ identity }) => identity },
		{ name: "created_by", text: ({ createdBy }) => createdBy },
	],
	json: (key) => ({ ...restJson(ApiKeySchema, key), state: stateOf(key) }),
};

/** What is the matter with a key, by this machine's clock. */
function stateOf({ revokedAt, expiresAt }: ApiKey): "revoked" | "expired" | "expires" | "active" {
	if (revokedAt) return "revoked";
	if (!expiresAt) return "active";
	return timestampMs(expiresAt) <= Date.now() ? "expired" : "expires";
}

function isGood(key: ApiKey): boolean {
	return ["active", "expires"].includes(stateOf(key));
}

function secondOf(time: Timestamp | undefined): string {
	return time ? `${new Date(timestampMs(time)).toISOString().slice(0, 19)}Z` : "";
}

function timeText(time: Timestamp | undefined): string {
	return time ? rfc3339(microsOf(time)) : "";
}
