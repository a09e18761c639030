import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { json } from "node:stream/consumers";
import type { Command } from "commander";
import type { Environment } from "../config.ts";
import { CommandError, type CommandLine, EXIT, print } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { devFilePath, givenUrl, readDevFile } from "./service-address.ts";
import { readSettings } from "./settings.ts";

const ANSWER_MS = 6_000;

/** `auditlog health`: what containers ask, which have no curl. It needs no key. */
export function health(command: Command, commandLine: CommandLine): void {
	command
		.option("--url <url>", "where the service is")
		.addHelpText(
			"after",
			`
Without --url: with the service's settings (DATABASE_URL among them) HOST and HTTP_PORT say where, as in its container; else
AUDIT_URL; else what \`make run\` left.

Exit codes: 0 writes can commit (what else is amiss is listed); 1 they cannot, or no answer.`,
		)
		.action(async (options: { url?: string }) => {
			const { url, isOurs } = findUrl(commandLine, options);
			const { ready, degraded } = await askReadiness(new URL("/readyz", url), isOurs ? askOurs : ask);
			await print(commandLine.stdout, `${[ready ? "ready" : "not ready", ...degraded].join("\n  ")}\n`);
			if (!ready) commandLine.exitCode = EXIT.failed;
		});
	addExamples(
		command,
		["for the check of a container", "auditlog health"],
		["for a script that must wait for the service", "until auditlog health; do sleep 1; done"],
	);
}

/** `isOurs`: it is the one that runs here with the same settings. */
function findUrl({ env }: CommandLine, options: { url?: string }): { url: string; isOurs: boolean } {
	// A container that is also told where to send events must not be judged by another one's health.
	if (!options.url && (env.DATABASE_URL || env.DATABASE_URL_FILE))
		return { url: urlOfServiceBeside(env), isOurs: true };
	const url = givenUrl(env, options) || readDevFile(env)?.http_url;
	if (url) return { url, isOurs: false };
	throw new CommandError(
		`no service found: start one with \`make run\` (it writes ${devFilePath(env)}), or give --url, or set AUDIT_URL`,
	);
}

function urlOfServiceBeside(env: Environment): string {
	const { host, httpPort, tls } = readSettings(env);
	// A service that listens everywhere is reached here.
	const here = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
	return `${tls ? "https" : "http"}://${here.includes(":") ? `[${here}]` : here}:${httpPort.number}`;
}

interface Answer {
	readonly ok: boolean;
	json(): Promise<unknown>;
}

async function askReadiness(
	url: URL,
	get: (url: URL) => Promise<Answer>,
): Promise<{ ready: boolean; degraded: readonly string[] }> {
	try {
		const response = await get(url);
		const { degraded } = (await response.json()) as { degraded: readonly string[] };
		return { ready: response.ok, degraded };
	} catch (cause) {
		const why = cause instanceof Error ? (cause.cause ?? cause) : cause;
		throw new CommandError(`no service answers at ${url.origin}: ${(why as Error).message}`, { cause });
	}
}

function ask(url: URL): Promise<Answer> {
	return fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
}

/**
 * Asks the service beside, whatever its certificate: that is for its name, which is not the address it is reached by from
 * here, and nothing secret is sent.
 */
async function askOurs(url: URL): Promise<Answer> {
	if (url.protocol === "http:") return ask(url);
	const request = get(url, { rejectUnauthorized: false, agent: false, signal: AbortSignal.timeout(ANSWER_MS) });
	const [response] = (await once(request, "response")) as [IncomingMessage];
	return { ok: response.statusCode === 200, json: () => json(response) };
}
