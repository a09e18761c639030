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
			const { ready, degraded } = await askReadiness(new URL("/readyz", findUrl(commandLine, options)));
			await print(commandLine.stdout, `${[ready ? "ready" : "not ready", ...degraded].join("\n  ")}\n`);
			if (!ready) commandLine.exitCode = EXIT.failed;
		});
	addExamples(
		command,
		["for the check of a container", "auditlog health"],
		["for a script that must wait for the service", "until auditlog health; do sleep 1; done"],
	);
}

function findUrl({ env }: CommandLine, options: { url?: string }): string {
	// A container that is also told where to send events must not be judged by another one's health.
	if (!options.url && (env.DATABASE_URL || env.DATABASE_URL_FILE)) return urlOfServiceBeside(env);
	const url = givenUrl(env, options) || readDevFile(env)?.http_url;
	if (url) return url;
	throw new CommandError(
		`no service found: start one with \`make run\` (it writes ${devFilePath(env)}), or give --url, or set AUDIT_URL`,
	);
}

function urlOfServiceBeside(env: Environment): string {
	const { host, httpPort } = readSettings(env);
	// A service that listens everywhere is reached here.
	const here = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
	return `http://${here.includes(":") ? `[${here}]` : here}:${httpPort.number}`;
}

async function askReadiness(url: URL): Promise<{ ready: boolean; degraded: readonly string[] }> {
	try {
		const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
		const { degraded } = (await response.json()) as { degraded: readonly string[] };
		return { ready: response.ok, degraded };
	} catch (cause) {
		const why = cause instanceof Error ? (cause.cause ?? cause) : cause;
		throw new CommandError(`no service answers at ${url.origin}: ${(why as Error).message}`, { cause });
	}
}
