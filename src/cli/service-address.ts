import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { Environment } from "../config.ts";
import type { DevFile } from "../dev/data-dir.ts";
import { CommandError, type CommandLine, UsageError } from "./command-line.ts";

/** Where the service is and with which key. */
export interface ServiceAddress {
	url: string;
	key: string;
}

export interface AddressOptions {
	url?: string;
	key?: string;
}

/** Adds --url and --key. */
export function addAddressOptions(command: Command): Command {
	return command
		.option("--url <url>", "where the service is (AUDIT_URL)")
		.option("--key <key>", "an API key (better: AUDIT_KEY, which other users of the machine cannot see)");
}

/** The options, else the environment, else what `make run` left behind. */
export function findService({ env }: CommandLine, options: AddressOptions): ServiceAddress {
	const url = givenUrl(env, options);
	const key = options.key ?? env.AUDIT_KEY;
	if (url && key) return { url, key };
	const dev = readDevFile(env);
	// A key of `make run` goes to that service and to no other.
	if (dev && (!url || isSameServer(url, dev))) return { url: url ?? dev.http_url, key: key ?? dev.admin_key };
	if (url) throw new CommandError("no API key: give --key or set AUDIT_KEY");
	throw new CommandError(
		`no service found: start one with \`make run\` (it writes ${devFilePath(env)}), or give --url and --key, or set AUDIT_URL and AUDIT_KEY`,
	);
}

/** --url, else AUDIT_URL. */
export function givenUrl(env: Environment, options: Pick<AddressOptions, "url">): string | undefined {
	const url = options.url ?? env.AUDIT_URL;
	// `localhost:8080` is a URL too, of the protocol `localhost:`.
	if (url && !(/^https?:\/\/./.test(url) && URL.canParse(url))) {
		throw new UsageError(`${options.url ? "--url" : "AUDIT_URL"} must look like http://localhost:8080`);
	}
	return url;
}

/** What `make run` wrote, or undefined if it never ran here. */
export function readDevFile(env: Environment): DevFile | undefined {
	const path = devFilePath(env);
	try {
		return JSON.parse(readFileSync(path, "utf8")) as DevFile;
	} catch (cause) {
		if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
		throw new CommandError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
	}
}

export function devFilePath(env: Environment): string {
	return join(dataDir(env), "dev.json");
}

export function dataDir(env: Environment): string {
	return env.DATA_DIR || ".data";
}

function isSameServer(url: string, dev: DevFile): boolean {
	return [dev.http_url, dev.grpc_url].some((own) => new URL(own).origin === new URL(url).origin);
}
