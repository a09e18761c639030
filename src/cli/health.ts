import type { Command } from "commander";
import { CommandError, type CommandLine, EXIT, print } from "./command-line.ts";
import { addExamples } from "./examples.ts";
import { readSettings } from "./settings.ts";

const ANSWER_MS = 6_000;

/** `auditlog health`: what containers ask, which have no curl. Beside a service it needs that service's settings alone. */
export function health(command: Command, commandLine: CommandLine): void {
	command
		.option("--url <url>", "where the service is; default: HOST and HTTP_PORT, as the service beside has them")
		.addHelpText(
			"after",
			"\nExit codes: 0 writes can commit (what else is amiss is listed); 1 they cannot, or no answer.",
		)
		.action(async ({ url }: { url?: string }) => {
			if (url && !URL.canParse(url))
				throw new CommandError("the URL of the service must look like http://localhost:8080");
			const { ready, degraded } = await askReadiness(new URL("/readyz", url ?? urlOfServiceBeside(commandLine)));
			await print(commandLine.stdout, `${[ready ? "ready" : "not ready", ...degraded].join("\n  ")}\n`);
			if (!ready) commandLine.exitCode = EXIT.failed;
		});
	addExamples(command, ["for the check of a container", "auditlog health"]);
}

function urlOfServiceBeside({ env }: CommandLine): string {
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
