import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DevFile } from "../../src/dev/data-dir.ts";
import { ownDirectory, waitFor } from "./services.ts";

const runs: DevProcess[] = [];

/** Ends what a test that failed has left running. To be called after each test. */
export function endRuns(): void {
	for (const run of runs.splice(0)) for (const pid of run.processes()) process.kill(pid, "SIGKILL");
}

/** A development run, in a data folder given or new. */
export class DevProcess {
	readonly child: ChildProcess;
	readonly dataDir: string;
	output = "";
	readonly #exited: Promise<number | null>;

	/**
	 * @param options.command what to run instead of `node src/main.ts dev`
	 * @param options.env beside DATA_DIR and free ports
	 */
	constructor(options: { dataDir?: string; command?: string[]; env?: Record<string, string> } = {}) {
		this.dataDir = options.dataDir ?? ownDirectory("dev");
		const [program = "", ...args] = options.command ?? [process.execPath, "src/main.ts", "dev"];
		this.child = spawn(program, args, {
			cwd: join(import.meta.dirname, "..", ".."),
			stdio: ["ignore", "pipe", "pipe"],
			// In a process group of its own, which can be signalled as a terminal does it.
			detached: true,
			env: {
				HOME: process.env.HOME,
				PATH: process.env.PATH,
				// Which servers the suite runs on.
				...(process.env.POSTGRES_BIN ? { POSTGRES_BIN: process.env.POSTGRES_BIN } : {}),
				...(process.env.NATS_SERVER_BIN ? { NATS_SERVER_BIN: process.env.NATS_SERVER_BIN } : {}),
				DATA_DIR: this.dataDir,
				HTTP_PORT: "0",
				GRPC_PORT: "0",
				...options.env,
			},
		});
		for (const stream of [this.child.stdout, this.child.stderr]) {
			stream?.setEncoding("utf8").on("data", (text: string) => {
				this.output += text;
			});
		}
		this.#exited = once(this.child, "close").then(() => this.child.exitCode);
		runs.push(this);
	}

	/** Waits for the end of the summary. */
	async ready(): Promise<DevFile> {
		await waitFor(() => this.output.includes("Ctrl-C stops everything") || this.child.exitCode !== null, {
			deadlineMs: 60_000,
			what: "the summary",
		});
		if (!existsSync(this.devFile)) throw new Error(`the run ended:\n${this.output}`);
		return JSON.parse(readFileSync(this.devFile, "utf8")) as DevFile;
	}

	get devFile(): string {
		return join(this.dataDir, "dev.json");
	}

	exited(): Promise<number | null> {
		return this.#exited;
	}

	/** The processes that belong to this data folder, as their command line or environment tells. */
	processes(): number[] {
		const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
		return pids.filter((pid) => mentions(pid, this.dataDir)).map(Number);
	}
}

function mentions(pid: string, path: string): boolean {
	try {
		const [args, env] = ["cmdline", "environ"].map((file) => readFileSync(`/proc/${pid}/${file}`, "utf8"));
		return `${args}${env}`.includes(path);
	} catch {
		return false;
	}
}
