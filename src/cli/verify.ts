import { type Command, Option } from "commander";
import { type Problem, type Verification, verifyTrail } from "../storage/verify.ts";
import { CommandError, type CommandLine, print } from "./command-line.ts";
import { databaseAdvice } from "./database-error.ts";
import { addExamples } from "./examples.ts";
import { jsonText, printable, printableLines } from "./output/printable.ts";
import { Progress } from "./progress.ts";
import { readDatabaseSettings } from "./settings.ts";

const VERIFY_EXIT = { proven: 0, tampered: 1, notVerified: 2 } as const;

/** `auditlog verify`: reads the whole trail in one snapshot and proves it, or says what is wrong with it. */
export function verify(command: Command, commandLine: CommandLine): void {
	command
		.addOption(new Option("-o, --output <format>", "how to print").choices(["text", "json"]).default("text"))
		.addHelpText(
			"after",
			`
Needs DATABASE_URL and AUDIT_SECRET, or the \`make run\` that ran here. Reads only; writing may go on meanwhile.

Exit codes: 0 everything stored is as it was written; 1 it is not: the output names tenant, batch, place and event;
2 could not verify.`,
		)
		.action(async (options: { output: "text" | "json" }) => {
			const { stdout } = commandLine;
			try {
				const verification = await runVerification(commandLine);
				const text = options.output === "json" ? jsonReport(verification) : textReport(verification);
				await print(stdout, text);
				commandLine.exitCode = verification.ok ? VERIFY_EXIT.proven : VERIFY_EXIT.tampered;
			} catch (error) {
				// Whatever the reason: exit code 1 is kept for tampering that was found.
				commandLine.exitCode = VERIFY_EXIT.notVerified;
				commandLine.stderr.write(`could not verify: ${printableLines(messageOf(error))}\n`);
			}
		});
	addExamples(
		command,
		["all that is stored", "auditlog verify"],
		[
			"for a program that runs it every night",
			"auditlog verify -o json > verified.json || echo 'the log is not as it was written'",
		],
	);
}

async function runVerification(commandLine: CommandLine): Promise<Verification> {
	const { databaseUrl, secret } = readDatabaseSettings(commandLine.env);
	const progress = new Progress(commandLine.stderr);
	try {
		return await verifyTrail({
			databaseUrl,
			secret,
			onProgress: (done, total) => progress.show("verifying", done, total, () => count(done, "event")),
		});
	} finally {
		progress.clear();
	}
}

function textReport({ ok, problems, problemCount, batches, events, tenants, notProven }: Verification): string {
	const checked = `${count(events, "event")} in ${count(batches, "batch", "batches")} of ${count(tenants, "tenant")}`;
	const lines = ok ? [`proven: ${checked}`] : [`NOT PROVEN: ${count(problemCount, "problem")} in ${checked}`, ""];
	lines.push(...problems.map((problem) => `  ${printable(describeProblem(problem))}`));
	if (problemCount > problems.length) lines.push(`  … and ${count(problemCount - problems.length, "more problem")}`);
	if (ok) {
		lines.push(
			"  every manifest is in its place, chained to the one before and made by the holder of the secret",
			"  every event hashes to its leaf, under its own tenant, and every leaf has its event",
		);
	}
	lines.push("", "Not shown by this:", ...notProven.map((text) => `  ${text}`));
	return `${lines.join("\n")}\n`;
}

function describeProblem({ tenantId, batchNo, batchId, ord, eventId, message }: Problem): string {
	const where = [
		tenantId !== undefined && `tenant ${tenantId}`,
		(batchNo !== undefined || batchId !== undefined) && `batch ${batchNo ?? `with id ${batchId}`}`,
		ord !== undefined && `place ${ord}`,
		eventId !== undefined && `event ${eventId}`,
	].filter((part) => part !== false);
	return where.length > 0 ? `${where.join(", ")}: ${message}` : message;
}

function jsonReport({ ok, problems, problemCount, batches, events, tenants, notProven }: Verification): string {
	const report = {
		ok,
		events,
		batches,
		tenants,
		problem_count: problemCount,
		problems: problems.map(({ tenantId, batchNo, batchId, ord, eventId, message }) => ({
			tenant_id: tenantId,
			batch_no: batchNo,
			batch_id: batchId,
			ord,
			event_id: eventId,
			message,
		})),
		not_proven: notProven,
	};
	return `${jsonText(report, 2)}\n`;
}

function messageOf(error: unknown): string {
	if (error instanceof CommandError) return error.message;
	const { message, code } = error as NodeJS.ErrnoException;
	const advice = databaseAdvice(error);
	if (advice !== undefined) return advice;
	return message || String(code ?? error);
}

function count(n: number, one: string, many = `${one}s`): string {
	return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}
