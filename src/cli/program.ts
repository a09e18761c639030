import { Command, CommanderError } from "commander";
import { AuditError } from "../errors.ts";
import { VERSION } from "../version.ts";
import { type CommandLine, type DefineCommand, EXIT, UsageError } from "./command-line.ts";
import { describeError, isExpected } from "./describe-error.ts";
import { readDevFile } from "./service-address.ts";

interface CommandEntry {
	summary: string;
	/** Commands are loaded one at a time: `--help` must not wait for the server's modules. */
	load: () => Promise<DefineCommand>;
	hidden?: true;
}

const COMMANDS: Record<string, CommandEntry> = {
	write: { summary: "write events", load: async () => (await import("./write.ts")).write },
	query: { summary: "search a tenant's events", load: async () => (await import("./query.ts")).query },
	get: { summary: "show one event", load: async () => (await import("./get.ts")).get },
	import: { summary: "import events from other systems", load: async () => (await import("./import.ts")).importEvents },
	verify: {
		summary: "prove that nothing stored was altered, added or removed",
		load: async () => (await import("./verify.ts")).verify,
	},
	serve: { summary: "run the service", load: async () => (await import("./serve.ts")).serve },
	migrate: {
		summary: "bring the database up to date",
		load: async () => (await import("./migrate.ts")).migrateDatabase,
	},
	key: { summary: "manage API keys", load: async () => (await import("./key.ts")).key },
	"dev-setup": {
		summary: "migrate the database that `dev` uses",
		load: async () => (await import("./dev-setup.ts")).devSetup,
		hidden: true,
	},
	dev: { summary: "run the service with all it needs", load: async () => (await import("./dev.ts")).dev, hidden: true },
};

/**
 * Runs one command.
 *
 * @param args the arguments after `auditlog`
 * @returns the exit code
 * @throws what no command expects: programmer errors
 */
export async function runCommandLine(args: readonly string[], commandLine: CommandLine): Promise<number> {
	const program = newProgram(commandLine);
	const named = args[0] === "help" ? args[1] : args[0];
	for (const [name, { summary, load, hidden }] of Object.entries(COMMANDS)) {
		const command = program.command(name, { hidden: hidden ?? false }).description(summary);
		if (name === named) (await load())(command, commandLine);
	}
	try {
		await program.parseAsync(args, { from: "user" });
		return commandLine.exitCode;
	} catch (error) {
		// Commander has printed its own message.
		if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
		if (!isExpected(error)) throw error;
		commandLine.stderr.write(`${describeError(error)}\n${demoTenants(error, commandLine)}`);
		return error instanceof UsageError ? EXIT.usage : EXIT.failed;
	}
}

/** Whoever tries out `make run` does not know yet which tenants there are. */
function demoTenants(error: Error, { env }: CommandLine): string {
	if (!(error instanceof AuditError)) return "";
	const isAboutTenant = error.violations.some(({ field }) => field.endsWith("tenant_id"));
	if (error.reason !== "TENANT_NOT_FOUND" && !isAboutTenant) return "";
	const tenants = readDevFile(env)?.tenants.map(({ id, name }) => `${id} (${name})`);
	return tenants ? `The demo tenants of \`make run\`: ${tenants.join(", ")}\n` : "";
}

function newProgram({ stdout, stderr }: CommandLine): Command {
	return new Command("auditlog")
		.description("A multi-tenant, tamper-evident audit log.")
		.version(VERSION, "-V, --version", "print the version")
		.helpOption("-h, --help", "show help")
		.helpCommand("help [command]", "show help for a command")
		.configureOutput({
			writeOut: (text) => void stdout.write(text),
			writeErr: (text) => void stderr.write(text),
			getOutHelpWidth: () => stdout.columns ?? 100,
			getErrHelpWidth: () => stderr.columns ?? 100,
		})
		.showHelpAfterError("(--help shows what is allowed)")
		.exitOverride()
		.addHelpText(
			"after",
			`
Examples:
  auditlog write --tenant acme --action user.login --actor user-123 --resource user:user-123
  auditlog query --tenant acme --since 24h --action 'user.*'
  auditlog import --tenant acme --format cloudtrail events.json.gz

Where the service is: --url and --key, else AUDIT_URL and AUDIT_KEY, else what \`make run\` left in
$DATA_DIR/dev.json (.data/dev.json).

Exit codes: 0 done; 1 refused or failed; 2 the command was called wrongly.`,
		);
}
