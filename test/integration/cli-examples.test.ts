import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { toJsonString } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { DevFile } from "../../src/dev/data-dir.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { everyCommand } from "../support/command-tree.ts";
import { DevProcess, endRuns } from "../support/dev-process.ts";
import { openNatsClient, untilDrained } from "../support/nats-client.ts";
import { runCli } from "../support/run-cli.ts";
import { ownDirectory, waitFor } from "../support/services.ts";
import { anEvent } from "../support/write-path.ts";

/** Every example of every help text, run as it stands by somebody who has just started `make run`. */

const ROOT = join(import.meta.dirname, "..", "..");

let run: DevProcess;
let dev: DevFile;
/** Where the examples are run: with the fixtures of a clone, and room for the files they write. */
let folder: string;
let env: Record<string, string | undefined>;

beforeAll(async () => {
	run = new DevProcess({ dataDir: await folderWithDeadLetters() });
	dev = await run.ready();
	folder = ownDirectory("examples");
	mkdirSync(folder);
	symlinkSync(join(ROOT, "test"), join(folder, "test"));
	writeFileSync(
		join(folder, "auditlog"),
		`#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, "src/main.ts")}' "$@"\n`,
	);
	chmodSync(join(folder, "auditlog"), 0o755);
	env = { PATH: `${folder}:${process.env.PATH}`, DATA_DIR: run.dataDir };
}, 120_000);

afterAll(async () => {
	run.child.kill("SIGTERM");
	await run.exited();
	endRuns();
});

/**
 * What only somebody has whose producers made mistakes: letters that are refused again, and one that need not be. That
 * came from a tenant that nobody had made, which is a mistake only where tenants are not made by themselves.
 */
async function folderWithDeadLetters(): Promise<string> {
	const before = new DevProcess({ env: { AUDIT_AUTO_CREATE_TENANTS: "false" } });
	const { nats_url: natsUrl } = await before.ready();
	const client = await openNatsClient(natsUrl ?? "");
	const early = anEvent({ tenantId: "initech", action: "user.login" });
	await client.publish([
		{ subject: "audit.events.initech", data: toJsonString(EventSchema, early) },
		...["{", "[]", "\u001b[2J"].map((data) => ({ subject: "audit.events.globex", data })),
	]);
	await untilDrained(client);
	await client.close();
	before.child.kill("SIGTERM");
	await before.exited();
	return before.dataDir;
}

/** The lines below "Examples:" that are no comments. */
async function examplesOf(path: string): Promise<string[]> {
	const { exitCode, stdout } = await runCli([...path.split(" ").filter(Boolean), "--help"]);
	expect(exitCode).toBe(0);
	const [, listed = ""] = stdout.split("\nExamples:\n");
	expect(listed, `the help of "${path}" ends with examples`).toMatch(/^( {2}\S.*\n)+\n?$/);
	return listed
		.split("\n")
		.map((line) => line.trim())
		.filter((line) => line !== "" && !line.startsWith("#"));
}

/** What `serve`, `config` and `migrate` find where the service runs for good. */
function production() {
	const secret = readFileSync(join(run.dataDir, "secret"), "utf8").trim();
	return { DATABASE_URL: dev.database_url, AUDIT_SECRET: secret, HTTP_PORT: "0", GRPC_PORT: "0" };
}

test("every help text ends with two to four examples, and each of them works", { timeout: 240_000 }, async () => {
	const commands = (await everyCommand()).map(({ path }) => path);
	for (const path of commands) {
		const examples = await examplesOf(path);
		expect(examples.length, path).toBeGreaterThanOrEqual(2);
		expect(examples.length, path).toBeLessThanOrEqual(4);
		const needsSettings = ["serve", "config", "migrate"].includes(path);
		if (path === "serve") for (const line of examples) await servesAndStops(line);
		else await works(examples, needsSettings ? production() : {});
	}
	// They did something: an example that finds nothing works, too.
	const letters = await runCli(["dead-letters", "list", "--state", "any", "-o", "csv"], { DATA_DIR: run.dataDir });
	const states = letters.stdout.split("\r\n").map((line) => line.split(",")[1]);
	expect(states).toEqual(["state", "discarded", "open", "open", "redriven", undefined]);
});

/** In one shell: what an example puts into a variable is there for the next. */
async function works(lines: string[], more: Record<string, string>): Promise<void> {
	const options = { cwd: folder, env: { ...env, ...more } };
	await promisify(execFile)("bash", ["-o", "pipefail", "-euc", lines.join("\n")], options).catch((error: unknown) => {
		const { stdout, stderr } = error as { stdout: string; stderr: string };
		throw new Error(`one of these examples does not work:\n${lines.join("\n")}\n${stdout}${stderr}`, { cause: error });
	});
}

async function servesAndStops(line: string): Promise<void> {
	const child = spawn("bash", ["-c", `exec env ${line}`], { cwd: folder, env: { ...env, ...production() } });
	let output = "";
	for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
	const closed = once(child, "close");
	await waitFor(() => output.includes('"listening"') || child.exitCode !== null, { deadlineMs: 60_000, what: line });
	child.kill("SIGTERM");
	await closed;
	expect(child.exitCode, output).toBe(0);
}
