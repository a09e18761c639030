import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { REVOKED_WITHIN_MS } from "../../auth/api-key-verifier.ts";
import { RevokeApiKeyRequestSchema } from "../../gen/audit/v1/access_service_pb.ts";
import { type CommandLine, print } from "../command-line.ts";
import { addExamples } from "../examples.ts";
import { printable } from "../output/printable.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { keyIdOf, WAYS, withAccess } from "./access.ts";

const STILL_GOOD = `up to ${REVOKED_WITHIN_MS / 1000} seconds`;

interface RevokeOptions extends AddressOptions {
	reason?: string;
}

/** `auditlog key revoke` */
export function revoke(command: Command, commandLine: CommandLine): void {
	command
		.description("take keys away for good")
		.argument("<key...>", "ids of keys, or the keys themselves as they were found")
		.option("--reason <text>", "why, for the record");
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
A running service looks at a key again and again: a revoked one works for ${STILL_GOOD} more, streams that are open
included. What the key wrote stays, and so does what is known of the key: \`auditlog key list --all\`.

${WAYS}`,
		)
		.action((given: string[], options: RevokeOptions) => run(commandLine, given.map(keyIdOf), options));
	addExamples(
		command,
		["a key to be taken away", "KEY=$(auditlog key create --role reader --tenant globex --name temporary)"],
		["a key that turned up where it should not be", 'auditlog key revoke "$KEY" --reason "was in a public repository"'],
	);
}

async function run(commandLine: CommandLine, ids: string[], options: RevokeOptions): Promise<void> {
	const { reason = "", ...address } = options;
	await withAccess(commandLine, address, async (access) => {
		for (const id of ids) {
			const { key, changed } = await access.revoke(create(RevokeApiKeyRequestSchema, { id, reason }));
			const what = `${id} (${printable(key?.name ?? "")})`;
			const text = changed
				? `revoked ${what}; the service may take it for ${STILL_GOOD} more`
				: `${what} was revoked before`;
			await print(commandLine.stdout, `${text}\n`);
		}
	});
}
