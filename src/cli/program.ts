import { Command, CommanderError } from "commander";
import { AuditError } from "../errors.ts";
import { VERSION } from "../version.ts";
import { type CommandLine, type DefineCommand, EXIT, UsageError } from "./command-line.ts";
import { describeError, isExpected } from "./describe-error.ts";
import { addExamples } from "./examples.ts";
import { readDevFile } from "./service-address.ts";

interface CommandEntry {
	summary: string;
	/** The heading it stands under in `auditlog --help`. */
	group: keyof typeof GROUPS;
	/** Commands are loaded one at a time: `--help` must not wait for the server's modules. */
	load: () => Promise<DefineCommand>;
	hidden?: true;
}

const GROUPS = {
	events: "Events:",
	access: "Tenants and keys:",
	operation: "Running it:",
	shell: "The command line:",
} as const;

const COMMANDS: Record<string, CommandEntry> = {
	write: { summary: "write events", group: "events", load: async () => (await import("./write.ts")).write },
	query: { summary: "search a tenant's events", group: "events", load: async () => (await import("./query.ts")).query },
	count: {
		summary: "count a tenant's events, by time and by what they have",
		group: "events",
		load: async () => (await import("./count.ts")).count,
	},
	get: { summary: "show one event", group: "events", load: async () => (await import("./get.ts")).get },
	export: {
		summary: "export events as CSV, NDJSON or Parquet",
		group: "events",
		load: async () => (await import("./export.ts")).exportEvents,
	},
	import: {
		summary: "import events from other systems",
		group: "events",
		load: async () => (await import("./import.ts")).importEvents,
	},
	"dead-letters": {
		summary: "list, show, redrive and discard messages that could not become events",
		group: "events",
		load: async () => (await import("./dead-letters.ts")).deadLetters,
	},
	verify: {
		summary: "prove that nothing stored was altered, added or removed",
		group: "events",
		load: async () => (await import("./verify.ts")).verify,
	},
	tenant: {
		summary: "make, list, rename, disable and enable tenants",
		group: "access",
		load: async () => (await import("./tenant.ts")).tenant,
	},
	key: {
		summary: "make, list, rotate and revoke API keys",
		group: "access",
		load: async () => (await import("./key.ts")).key,
	},
	serve: { summary: "run the service", group: "operation", load: async () => (await import("./serve.ts")).serve },
	health: {
		summary: "ask whether the service is ready",
		group: "operation",
		load: async () => (await import("./health.ts")).health,
	},
	config: {
		summary: "show the service's settings, without secrets",
		group: "operation",
		load: async () => (await import("./config.ts")).config,
	},
	migrate: {
		summary: "bring the database up to date",
		group: "operation",
		load: async () => (await import("./migrate.ts")).migrateDatabase,
	},
	completion: {
		summary: "print a script that completes commands in your shell",
		group: "shell",
		load: async () => (await import("./completion.ts")).completion,
	},
	"dev-setup": {
		summary: "migrate the database that `dev` uses",
		group: "operation",
		load: async () => (await import("./dev-setup.ts")).devSetup,
		hidden: true,
	},
	dev: {
		summary: "run the service with all it needs",
		group: "operation",
		load: async () => (await import("./dev.ts")).dev,
		hidden: true,
	},
};

/**
 * Runs one command.
 *
 * @param args the arguments after `auditlog`
 * @returns the exit code
 * @throws what no command expects: programmer errors
 */
export async function runCommandLine(args: readonly string[], commandLine: CommandLine): Promise<number> {
	const [first, second] = args.filter((arg) => !arg.startsWith("-"));
	const named = first === "help" ? second : first;
	// Completion is made of all of them.
	const program = await loadProgram(commandLine, (name) => name === named || named === "completion");
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

/** The program with all its commands: those that are wanted as a whole, of the others the name and what it is for. */
export async function loadProgram(commandLine: CommandLine, isWanted: (name: string) => boolean): Promise<Command> {
	const program = newProgram(commandLine);
	for (const [name, { summary, group, load, hidden }] of Object.entries(COMMANDS)) {
		const command = program
			.command(name, { hidden: hidden ?? false })
			.description(summary)
			.helpGroup(GROUPS[group]);
		if (isWanted(name)) (await load())(command, commandLine);
	}
	program.hook("preAction", () => {
		commandLine.noColour = program.opts<{ color: boolean }>().color === false;
	});
	return program;
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
	const program = new Command("auditlog")
		.description("A multi-tenant, tamper-evident audit log.")
		.version(VERSION, "-V, --version", "print the version")
		.helpOption("-h, --help", "show help")
		.option("--no-color", "print without colours (as NO_COLOR does)")
		.addHelpCommand(
			new Command("help").argument("[command]").description("show help for a command").helpGroup(GROUPS.shell),
		)
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
Where the service is: --url and --key, else AUDIT_URL and AUDIT_KEY, else what \`make run\` left in
$DATA_DIR/dev.json (.data/dev.json).

Exit codes:
  0         done (of verify: everything stored is as it was written)
  1         refused or failed, in part or as a whole (of verify: something was altered)
  2         the command was called wrongly (of verify also: nothing could be shown)
  130, 143  ended by Ctrl-C (SIGINT) or by SIGTERM`,
		);
	return addExamples(
		program,
		[
			"what somebody did",
			"auditlog write --tenant globex --action user.login --actor user-123 --resource user:user-123",
		],
		["what happened in the last day", "auditlog query --tenant globex --since 24h --action 'user.*'"],
		["whether all of it is as it was written", "auditlog verify"],
	);
}
