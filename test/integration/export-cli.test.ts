import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { promisify } from "node:util";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { checkTrail } from "../support/check-trail.ts";
import { readParquet } from "../support/read-parquet.ts";
import { createKey } from "../support/rpc-service.ts";
import { type CliResult, runCli } from "../support/run-cli.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, type TestDatabase, testSecret, waitFor } from "../support/services.ts";

/** `auditlog export` against a running service, which now and then is killed, as the command is. */

const ROOT = join(import.meta.dirname, "..", "..");
const FILE = "test/fixtures/cloudtrail.ndjson.gz";

/** Each command is a process of its own, and a busy machine takes seconds to start one. */
const MANY_COMMANDS = { timeout: 240_000 };

let database: TestDatabase;
let service: ServiceProcess;
let line: Line;
let env: Record<string, string>;
let folder: string;
let files = 0;
/** What an export of everything has to be. */
let whole: Buffer;

/** Bytes on the line, where messages are compressed: some of the chunks of a whole export, not all. */
const IN_THE_MIDDLE = 250_000;

const ALL = ["export", "--tenant", "cloud", "--action", "*"];

beforeAll(async () => {
	database = await createTestDatabase();
	service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
	line = await openLine(service.httpUrl);
	env = { AUDIT_URL: line.url, AUDIT_KEY: await createKey(database.url, "operator", "all") };
	expect((await runCli(["import", "--format", "cloudtrail", "--tenant", "cloud", FILE], env)).exitCode).toBe(0);
	folder = ownDirectory("export-cli");
	mkdirSync(folder);
	whole = await exported([...ALL, "--format", "ndjson"]);
	return async () => {
		line.close();
		await service.stop();
		await database.drop();
	};
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));
beforeEach(() => {
	line.passes = Number.POSITIVE_INFINITY;
});

const newFile = (name: string) => join(folder, `${files++}-${name}`);

/** What a command printed, which must have ended well. */
async function exported(args: readonly string[]): Promise<Buffer> {
	const options = {
		cwd: ROOT,
		env: { DATA_DIR: "no-such-directory", ...env },
		maxBuffer: 64e6,
		encoding: "buffer",
	} as const;
	return (await promisify(execFile)(process.execPath, ["src/main.ts", ...args], options)).stdout;
}

function expectDone({ exitCode, stderr, stdout }: CliResult): void {
	expect({ exitCode, stderr }, stdout).toEqual({ exitCode: 0, stderr: "" });
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** A line to the service that can be led elsewhere, and that carries no more than it may of what the service sends. */
interface Line {
	readonly url: string;
	target: string;
	/** Bytes that are still let through; what is beyond waits for ever, on connections that were open. */
	passes: number;
	close(): void;
}

async function openLine(target: string): Promise<Line> {
	const sockets = new Set<Socket>();
	const server: Server = createServer((client) => {
		const upstream = connect(Number(new URL(opened.target).port), "127.0.0.1");
		for (const [from, to] of [[client, upstream] as const, [upstream, client] as const]) {
			sockets.add(from);
			from.on("error", () => {});
			from.on("close", () => to.destroy());
		}
		client.on("data", (chunk) => void upstream.write(chunk));
		upstream.on("data", (chunk) => {
			opened.passes -= chunk.length;
			if (opened.passes < 0) upstream.pause();
			else client.write(chunk);
		});
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const opened: Line = {
		url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
		target,
		passes: Number.POSITIVE_INFINITY,
		close: () => {
			server.close();
			for (const socket of sockets) socket.destroy();
		},
	};
	return opened;
}

/** A command that is under way. */
class Running {
	readonly child: ChildProcess;
	readonly #ended: Promise<CliResult & { readonly bytes: Buffer }>;

	constructor(args: readonly string[]) {
		this.child = spawn(process.execPath, ["src/main.ts", ...args], {
			cwd: ROOT,
			env: { DATA_DIR: "no-such-directory", ...env },
			stdio: ["ignore", "pipe", "pipe"],
		});
		const { stdout, stderr } = this.child;
		const ended = once(this.child, "close");
		this.#ended = Promise.all([
			buffer(stdout as NodeJS.ReadableStream),
			text(stderr as NodeJS.ReadableStream),
			ended,
		]).then(([bytes, err]) => ({ exitCode: this.child.exitCode, stdout: bytes.toString(), stderr: err, bytes }));
	}

	/** Until some of the events, but not all of them, are sure to be gone on from. */
	async inTheMiddleOf(out: string): Promise<void> {
		const events = () => {
			if (!existsSync(`${out}.part.json`)) return 0;
			return Number((JSON.parse(readFileSync(`${out}.part.json`, "utf8")) as { events: string }).events);
		};
		await waitFor(() => events() > 0, { what: "the first events", deadlineMs: 60_000 });
		expect(existsSync(out)).toBe(false);
	}

	ended(): Promise<CliResult & { readonly bytes: Buffer }> {
		return this.#ended;
	}
}

describe("a whole export", MANY_COMMANDS, () => {
	test("goes to standard output, and is what the service sent", async () => {
		expect(whole.toString().trimEnd().split("\n")).toHaveLength(2_901);
		const { exitCode, stderr, stdout } = await runCli([...ALL, "--format", "ndjson"], env);
		expect(exitCode).toBe(0);
		expect(sha256(Buffer.from(stdout))).toBe(sha256(whole));
		expect(stderr).toBe(
			`2,901 events, ${whole.length.toLocaleString("en")} bytes: count, length and SHA-256 are as the service's manifest says\n`,
		);
	});

	test("goes into a file, with the manifest it was checked against beside it, and nothing else", async () => {
		const out = newFile("all.ndjson");
		const result = await runCli([...ALL, "--format", "ndjson", "--out", out], env);
		expectDone(result);
		expect(result.stdout).toContain(`${out}: 2,901 events`);
		expect(readFileSync(out).equals(whole)).toBe(true);
		expect(JSON.parse(readFileSync(`${out}.manifest.json`, "utf8"))).toMatchObject({
			events: "2901",
			bytes: String(whole.length),
			sha256: sha256(whole),
			request: { format: "EXPORT_FORMAT_NDJSON", query: { tenant_id: "cloud", actions: ["*"] } },
			point: { chain: expect.stringMatching(/^[0-9a-f]{64}$/) },
		});
		expect([".part", ".part.json", ".manifest.json.new"].filter((end) => existsSync(out + end))).toEqual([]);
	});

	test("is compressed, has the columns, the order and the filters that are asked for", async () => {
		const gzip = newFile("all.ndjson.gz");
		expectDone(await runCli([...ALL, "--format", "ndjson", "--compress", "gzip", "--out", gzip], env));
		expect(gunzipSync(readFileSync(gzip)).equals(whole)).toBe(true);
		const zstd = newFile("some.csv.zst");
		const filters = ["--action", "ec2.*", "--outcome", "denied", "--order", "oldest"];
		const shape = ["--format", "csv", "--bom", "--compress", "zstd", "--columns", "action", "outcome", "--out", zstd];
		expectDone(await runCli(["export", "--tenant", "cloud", ...filters, ...shape], env));
		const lines = zstdDecompressSync(readFileSync(zstd)).toString().trimEnd().split("\r\n");
		expect(lines[0]).toBe("\ufeffaction,outcome");
		expect(lines.length).toBeGreaterThan(1);
		for (const each of lines.slice(1)) expect(each).toMatch(/^ec2\.[\w.-]+,OUTCOME_DENIED$/);
	});

	test("is Parquet", async () => {
		const out = newFile("all.parquet");
		expectDone(await runCli([...ALL, "--format", "parquet", "--out", out], env));
		const ids = whole
			.toString()
			.trimEnd()
			.split("\n")
			.map((each) => (JSON.parse(each) as { id: string }).id);
		expect((await readParquet(readFileSync(out))).rows.map(({ id }) => id)).toEqual(ids);
	});
});

describe("an export that breaks off", MANY_COMMANDS, () => {
	test.each(["none", "gzip", "zstd"])(
		"with the command (kill -9), compressed by %s, is gone on with by the same command, and is the same file",
		async (compression) => {
			const out = newFile("killed.ndjson");
			const compress = compression === "none" ? [] : ["--compress", compression];
			const args = ["export", "--tenant", "cloud", "--since", "3650d", "--format", "ndjson", ...compress, "--out", out];
			const undisturbed = newFile("undisturbed.ndjson");
			line.passes = IN_THE_MIDDLE;
			const running = new Running(args);
			await running.inTheMiddleOf(out);
			running.child.kill("SIGKILL");
			await running.ended();
			// What the machine may leave after the last byte that is sure.
			const part = readFileSync(`${out}.part`);
			writeFileSync(`${out}.part`, Buffer.concat([part, Buffer.from("rubbish")]));
			// What came since is not in it: it goes on at the point where it began.
			expect(
				(await runCli(["write", "--tenant", "cloud", "--action", "user.login", "--actor", "x"], env)).exitCode,
			).toBe(0);

			line.passes = Number.POSITIVE_INFINITY;
			expectDone(await runCli(args, env));
			const manifest = JSON.parse(readFileSync(`${out}.manifest.json`, "utf8")) as Record<string, unknown>;
			expect(manifest).toMatchObject({ events: String(eventsIn(out, compression)), sha256: sha256(readFileSync(out)) });
			expect(Number(manifest["resumed"])).toBe(1);
			expectDone(await runCli([...args.slice(0, -1), undisturbed], env));
			const [resumed, later] = [contentOf(out, compression), contentOf(undisturbed, compression)];
			// Newest first: the one event that came since is the first line of the later export.
			expect(later.subarray(later.indexOf("\n") + 1).equals(resumed)).toBe(true);
		},
	);

	test("with the service (kill -9) goes on by itself when that is there again, and is the same file", async () => {
		const out = newFile("survived.ndjson");
		const wanted = await exported([...ALL, "--format", "ndjson"]);
		line.passes = IN_THE_MIDDLE;
		const running = new Running([...ALL, "--format", "ndjson", "--out", out]);
		await running.inTheMiddleOf(out);
		// Some came after the last that is sure, and has to be cut off.
		const sure = () => (JSON.parse(readFileSync(`${out}.part.json`, "utf8")) as { bytes: number }).bytes;
		await waitFor(() => line.passes < 0 && statSync(`${out}.part`).size > sure(), { what: "more than is sure" });
		service.kill("SIGKILL");
		await service.exited();
		line.passes = Number.POSITIVE_INFINITY;
		service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
		line.target = service.httpUrl;
		expectDone(await running.ended());
		expect(readFileSync(out).equals(wanted)).toBe(true);
		expect(JSON.parse(readFileSync(`${out}.manifest.json`, "utf8"))).toMatchObject({ resumed: 1 });
	});

	test("with the service (kill -9), onto standard output, goes on there without a byte twice", async () => {
		// A piece of it is some chunks, of which the last alone can be gone on from.
		const wanted = await exported([...ALL, "--format", "ndjson"]);
		line.passes = IN_THE_MIDDLE;
		const running = new Running([...ALL, "--format", "ndjson"]);
		const { stdout } = running.child;
		await once(stdout as NodeJS.ReadableStream, "data");
		await waitFor(() => line.passes < 0, { what: "the line to be full" });
		service.kill("SIGKILL");
		await service.exited();
		line.passes = Number.POSITIVE_INFINITY;
		service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
		line.target = service.httpUrl;
		const { exitCode, stderr, bytes } = await running.ended();
		expect(exitCode, stderr).toBe(0);
		expect(stderr).toMatch(/^[\d,]+ events, .*manifest says\n$/);
		expect(sha256(bytes)).toBe(sha256(wanted));
	});

	test("by Ctrl-C says how to go on, and that is so", async () => {
		const out = newFile("stopped.csv");
		line.passes = IN_THE_MIDDLE;
		const args = [...ALL, "--format", "csv", "--out", out];
		const running = new Running(args);
		await running.inTheMiddleOf(out);
		running.child.kill("SIGINT");
		const { exitCode, stderr } = await running.ended();
		expect(exitCode).toBe(130);
		expect(stderr).toMatch(/^\S+\.part has what came so far; the same command goes on after [\d,]+ events\n$/);
		line.passes = Number.POSITIVE_INFINITY;
		expectDone(await runCli(args, env));
		expect(readFileSync(out).equals(await exported([...ALL, "--format", "csv"]))).toBe(true);
	});

	test("as Parquet begins again", async () => {
		const out = newFile("again.parquet");
		line.passes = 60_000;
		const args = [...ALL, "--format", "parquet", "--out", out];
		const running = new Running(args);
		const hasBegun = () => existsSync(`${out}.part`) && statSync(`${out}.part`).size > 0;
		await waitFor(hasBegun, { what: "its beginning", deadlineMs: 60_000 });
		running.child.kill("SIGTERM");
		const { exitCode, stderr } = await running.ended();
		expect(exitCode).toBe(143);
		expect(stderr).toContain("the same command begins again");
		line.passes = Number.POSITIVE_INFINITY;
		expectDone(await runCli(args, env));
		expect((await readParquet(readFileSync(out))).rows.length).toBeGreaterThan(2_900);
	});

	test("is not gone on with by another command: that begins anew", async () => {
		const out = newFile("other.ndjson");
		line.passes = IN_THE_MIDDLE;
		const running = new Running([...ALL, "--format", "ndjson", "--out", out]);
		await running.inTheMiddleOf(out);
		running.child.kill("SIGKILL");
		await running.ended();
		line.passes = Number.POSITIVE_INFINITY;
		expectDone(
			await runCli(["export", "--tenant", "cloud", "--action", "ec2.*", "--format", "ndjson", "--out", out], env),
		);
		const actions = readFileSync(out, "utf8")
			.trimEnd()
			.split("\n")
			.map((each) => (JSON.parse(each) as { action: string }).action);
		expect(actions.filter((action) => !action.startsWith("ec2."))).toEqual([]);
	});

	test("and was altered on the disk is found out, and not taken for whole", async () => {
		const out = newFile("altered.ndjson");
		line.passes = IN_THE_MIDDLE;
		const args = [...ALL, "--format", "ndjson", "--out", out];
		const running = new Running(args);
		await running.inTheMiddleOf(out);
		running.child.kill("SIGKILL");
		await running.ended();
		const part = readFileSync(`${out}.part`);
		part.write("X", 100);
		writeFileSync(`${out}.part`, part);
		line.passes = Number.POSITIVE_INFINITY;
		const { exitCode, stderr } = await runCli(args, env);
		expect(exitCode).toBe(1);
		expect(stderr).toContain("its SHA-256 is");
		expect(existsSync(out)).toBe(false);
		// Once more begins anew.
		expectDone(await runCli(args, env));
	});
});

describe("what it says", MANY_COMMANDS, () => {
	const bash = async (command: string, inTerminal = false) => {
		const auditlog = `auditlog() { '${process.execPath}' '${join(ROOT, "src/main.ts")}' "$@"; }; cd '${ROOT}'`;
		const file = newFile("line.sh");
		writeFileSync(file, `${inTerminal ? "stty cols 120; " : "set -o pipefail; "}${auditlog}; ${command}`);
		const [program, args] = inTerminal ? ["script", ["-qefc", `bash ${file}`, "/dev/null"]] : ["bash", [file]];
		const options = { env: { PATH: process.env.PATH, DATA_DIR: "no-such-directory", TERM: "xterm", ...env } };
		return promisify(execFile)(program as string, args as string[], options);
	};

	test("is nothing when the reader goes away", async () => {
		const { stdout, stderr } = await bash("auditlog export --tenant cloud --format csv --columns action | head -n 1");
		expect({ stdout, stderr }).toEqual({ stdout: "action\r\n", stderr: "" });
	});

	test("is a bar on a terminal, which is gone at the end", async () => {
		const out = newFile("shown.ndjson");
		const { stdout } = await bash(`auditlog export --tenant cloud --format ndjson --out '${out}'`, true);
		expect(stdout).toMatch(/exporting (\[#* *\] +\d+ % )?[\d,]+ events, [\d,]+\/s, \d+\.\d MB/);
		expect(stdout.split("\r\u001b[K").at(-1)).toMatch(/^\S+: [\d,]+ events, .*manifest says/);
	});

	test("is what to do instead of writing a file onto a terminal", async () => {
		await expect(bash("auditlog export --tenant cloud --format csv", true)).rejects.toMatchObject({
			code: 2,
			stdout: expect.stringContaining("give --out FILE"),
		});
	});

	test("is what is wrong: of the command, of the request, of the key", async () => {
		const failed = async (args: string[], more: Record<string, string> = {}) => {
			const { exitCode, stderr } = await runCli(["export", ...args], { ...env, ...more });
			return { exitCode, stderr };
		};
		expect((await failed(["--tenant", "cloud"])).exitCode).toBe(2);
		expect((await failed(["--tenant", "cloud", "--format", "xlsx"])).exitCode).toBe(2);
		const refused = await failed(["--tenant", "cloud", "--format", "parquet", "--compress", "gzip"]);
		expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("(invalid_argument)") });
		const reader = await createKey(database.url, "reader", ["cloud"]);
		const out = newFile("denied.csv");
		const denied = await failed(["--format", "csv", "--out", out], { AUDIT_KEY: reader });
		expect(denied).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/^error: .*\(permission_denied\)/) });
		expect(existsSync(`${out}.part`) || existsSync(`${out}.part.json`)).toBe(false);
		expect((await failed(["--tenant", "cloud", "--format", "csv", "--out", folder])).stderr).toContain("is a folder");
		const nowhere = join(folder, "no-such-folder", "x.csv");
		expect((await failed(["--tenant", "cloud", "--format", "csv", "--out", nowhere])).exitCode).toBe(1);
	});
});

function contentOf(path: string, compression: string): Buffer {
	const bytes = readFileSync(path);
	if (compression === "gzip") return gunzipSync(bytes);
	return compression === "zstd" ? everyFrame(bytes) : bytes;
}

/** Node takes the first frame of a file for all of it; a resumed one has two. */
function everyFrame(bytes: Buffer): Buffer {
	const contents: Buffer[] = [];
	for (let rest = bytes; rest.length > 0; ) {
		const { buffer, engine } = zstdDecompressSync(rest, { info: true }) as unknown as {
			buffer: Buffer;
			engine: { bytesWritten: number };
		};
		contents.push(buffer);
		rest = rest.subarray(engine.bytesWritten);
	}
	return Buffer.concat(contents);
}

function eventsIn(path: string, compression: string): number {
	return contentOf(path, compression).toString().trimEnd().split("\n").length;
}
