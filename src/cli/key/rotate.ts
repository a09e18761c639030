import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { RotateApiKeyRequestSchema } from "../../gen/audit/v1/access_service_pb.ts";
import { EITHER_WAY } from "../access-way.ts";
import { type CommandLine, print } from "../command-line.ts";
import { addExamples } from "../examples.ts";
import { type AddressOptions, addAddressOptions } from "../service-address.ts";
import { parseSeconds, parseTimeAhead } from "../time-option.ts";
import { keyIdOf, withAccess } from "./access.ts";

interface RotateOptions extends AddressOptions {
	overlap?: string;
	expires?: string;
}

/** `auditlog key rotate` */
export function rotate(command: Command, commandLine: CommandLine): void {
	command
		.description("make another key for whoever has this one, and print it, once")
		.argument("<key>", "the id of a key; a whole key is taken, too, but other users of the machine see it here")
		.option("--overlap <time>", "how long the old ones go on working: 0, 90s, 15m, 24h, 7d; 90d at most; default: 24h")
		.option("--expires <time>", "the new one is good until then, as in `key create`; default: for ever");
	addAddressOptions(command)
		.addHelpText(
			"after",
			`
The new key has the rights and the identity of the old one. All others of that identity that work now expire after the
overlap, or earlier if they did so before. Only the key goes to standard output.

${EITHER_WAY}`,
		)
		.action((key: string, options: RotateOptions) => run(commandLine, key, options));
	addExamples(
		command,
		["a key that is to be changed", "KEY=$(auditlog key create --role writer --tenant globex --name billing)"],
		["both work for a week", 'NEW=$(auditlog key rotate "${KEY%_*}" --overlap 7d)'],
		["the new one works, no other", 'auditlog key rotate "${NEW%_*}" --overlap 0 --expires 90d'],
	);
}

async function run(commandLine: CommandLine, key: string, options: RotateOptions): Promise<void> {
	const { overlap, expires, ...address } = options;
	const request = create(RotateApiKeyRequestSchema, {
		id: keyIdOf(key),
		...(overlap !== undefined && { overlap: { seconds: BigInt(parseSeconds("--overlap", overlap)) } }),
		...(expires !== undefined && { expiresAt: parseTimeAhead("--expires", expires, Date.now()) }),
	});
	const { secret, replaced } = await withAccess(commandLine, address, (access) => access.rotate(request));
	await print(commandLine.stdout, `${secret}\n`);
	for (const { id, expiresAt } of replaced) commandLine.stderr.write(`${id} works until ${timeText(expiresAt)}\n`);
}

function timeText(time: Timestamp | undefined): string {
	return time ? new Date(timestampMs(time)).toISOString() : "";
}
