import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ownDirectory, waitFor } from "./support/services.ts";

/** The README's own blocks, run in their order as a reader would: `make run` first, the rest beside it. */

const ROOT = join(import.meta.dirname, "..");
const readme = readFileSync(join(ROOT, "README.md"), "utf8");
const blocks = (language: string) =>
	[...readme.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, "g"))].map((match) => match[1] ?? "");
const [makeRun = "", address = "", ...others] = blocks("sh");

let service: ReturnType<typeof spawn>;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
	expect(makeRun.trim()).toBe("make run");
	const dataDir = ownDirectory("readme");
	// A reader's own PATH, which knows nothing of what npm installs here.
	const path = process.env.PATH?.split(delimiter).filter((folder) => !folder.startsWith(ROOT));
	env = { PATH: path?.join(delimiter), HOME: process.env.HOME, DATA_DIR: dataDir };
	service = spawn("bash", ["-c", `exec ${makeRun.trim()}`], { cwd: ROOT, env, stdio: ["ignore", "pipe", "inherit"] });
	let summary = "";
	service.stdout?.setEncoding("utf8").on("data", (text: string) => {
		summary += text;
	});
	await waitFor(() => existsSync(join(dataDir, "dev.json")) && summary.includes("curl"), {
		deadlineMs: 60_000,
		what: "make run",
	});
}, 90_000);

afterAll(async () => {
	service.kill("SIGTERM");
	await once(service, "close");
});

async function run(block: string): Promise<string> {
	const { stdout } = await promisify(execFile)("bash", ["-euc", `${address}\n${block}`], { cwd: ROOT, env });
	return stdout;
}

test("every shell block of the README works as it stands", async () => {
	expect(others.length).toBeGreaterThanOrEqual(7);
	const outputs: string[] = [];
	for (const block of others) outputs.push(await run(block));
	const said = outputs.join("\n");
	expect(said).toContain('"event_id"');
	expect(said).toContain("user.role_changed");
	expect(said).toContain("of stream AUDIT");
	expect(said).toContain("2,900");
	expect(said).toMatch(/ec2\.\w+ .*denied/i);
	expect(said).toContain("proven");
	expect(said).toMatch(/^[a-z_,]*occurred_at,.*\r\n.*,cloud,/m);
	expect(said).toMatch(/make test-defects/);
}, 120_000);

test("what was published to NATS is found a moment later", async () => {
	await waitFor(async () =>
		(
			await run(
				'curl -sS "$AUDIT_URL/v1/audit/events?tenant_id=7e4e4e93-94ec-45bd-87ce-88ce3f689e3c&actions=invoice.approved" -H "Authorization: Bearer $AUDIT_KEY"',
			)
		).includes("invoice.approved"),
	);
});

test("the TypeScript of the README compiles and runs against the package's client", async () => {
	const [snippet = ""] = blocks("ts");
	// Inside the package, so that it can import itself by name.
	const folder = mkdtempSync(join(ROOT, "test/.readme-"));
	try {
		writeFileSync(join(folder, "snippet.ts"), snippet);
		writeFileSync(join(folder, "tsconfig.json"), '{ "extends": "../../tsconfig.json", "include": ["snippet.ts"] }');
		await promisify(execFile)("tsc", ["-p", folder], { cwd: ROOT });
		expect(await run(`node --conditions=auditlog-source ${join(folder, "snippet.ts")}`)).toMatch(
			/Event registered: [0-9a-f-]{36}/,
		);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}, 60_000);

test("every example runs as it stands and prints what it says", async () => {
	const folder = join(ROOT, "docs/examples");
	const listed = [...readFileSync(join(folder, "README.md"), "utf8").matchAll(/\]\(([\w-]+\.(?:ts|sh))\)/g)].map(
		([, name = ""]) => name,
	);
	expect([...listed].sort()).toEqual(readdirSync(folder).filter((name) => /\.(ts|sh)$/.test(name)));
	for (const name of listed) {
		const [, prints = ""] = /^(?:\/\/|#) Prints: (.+)$/m.exec(readFileSync(join(folder, name), "utf8")) ?? [];
		expect(prints, name).not.toBe("");
		const command = name.endsWith(".ts") ? "node --conditions=auditlog-source" : "bash -eu";
		const said = await run(`NATS_URL=$(dev nats_url) ${command} docs/examples/${name}`);
		expect(said, name).toMatch(new RegExp(prints));
	}
}, 60_000);
