import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { testSecret, waitFor } from "./services.ts";

/** The real service in a process of its own. */
export interface ServiceProcess {
	readonly httpUrl: string;
	readonly grpcUrl: string;
	readonly pid: number;
	/** Everything it has written so far. */
	readonly stdout: string;
	readonly stderr: string;
	/** Sends a signal and waits for nothing. */
	kill(signal: NodeJS.Signals): void;
	/** Waits until it is gone: its exit code, or null when a signal ended it. */
	exited(): Promise<number | null>;
	/** Ends it in order (SIGTERM) and returns its exit code. */
	stop(): Promise<number | null>;
}

/** Another program than the one of this clone, from another folder, as another user. */
export interface StartAs {
	readonly command?: readonly string[];
	readonly cwd?: string;
	readonly uid?: number;
	readonly gid?: number;
}

const ROOT = join(import.meta.dirname, "..", "..");
const running = new Set<ChildProcess>();
process.on("exit", () => {
	for (const child of running) child.kill("SIGKILL");
});

/**
 * Runs `node src/main.ts serve` and waits until it listens. The environment is what is given (DATABASE_URL, NATS_URL, …) on
 * top of free ports, the suite's secret and nothing of the developer's own.
 */
export async function startService(
	env: Readonly<Record<string, string>>,
	{ command = [process.execPath, "src/main.ts", "serve"], ...as }: StartAs = {},
): Promise<ServiceProcess> {
	const output = { stdout: "", stderr: "" };
	const [program = "", ...args] = command;
	const child = spawn(program, args, {
		cwd: ROOT,
		...as,
		stdio: ["ignore", "pipe", "pipe"],
		env: {
			HTTP_PORT: "0",
			GRPC_PORT: "0",
			LOG_LEVEL: "info",
			AUDIT_DRAIN_NOTICE_MS: "0",
			AUDIT_SECRET: testSecret(),
			...env,
		},
	});
	running.add(child);
	child.once("exit", () => running.delete(child));
	for (const stream of ["stdout", "stderr"] as const) {
		child[stream].setEncoding("utf8").on("data", (text: string) => {
			output[stream] += text;
		});
	}
	const exited = once(child, "close").then(() => child.exitCode);
	try {
		await waitFor(() => announced(output.stdout) ?? hasEnded(child), { deadlineMs: 60_000, what: "listening" });
		const urls = announced(output.stdout);
		if (!urls) throw new Error("it ended by itself");
		return {
			...urls,
			pid: child.pid as number,
			get stdout() {
				return output.stdout;
			},
			get stderr() {
				return output.stderr;
			},
			kill: (signal) => void child.kill(signal),
			exited: () => exited,
			stop: () => {
				child.kill("SIGTERM");
				return exited;
			},
		};
	} catch (error) {
		child.kill("SIGKILL");
		throw new Error(`the service did not start:\n${output.stdout}${output.stderr}`, { cause: error });
	}
}

/** The addresses it announces once it listens. */
function announced(stdout: string): { httpUrl: string; grpcUrl: string } | undefined {
	const line = stdout.split("\n").find((candidate) => candidate.includes('"msg":"listening"'));
	if (!line?.endsWith("}")) return undefined;
	const { http_url, grpc_url } = JSON.parse(line) as { http_url: string; grpc_url: string };
	return { httpUrl: http_url, grpcUrl: grpc_url };
}

function hasEnded(child: ChildProcess): boolean {
	return child.exitCode !== null || child.signalCode !== null;
}
