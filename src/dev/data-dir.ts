import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { CannotStart } from "./cannot-start.ts";
import { endLeftovers, endProcess } from "./leftovers.ts";
import { isRunning, startMark } from "./process-info.ts";

/** What `make run` writes for whoever comes without settings: `dev.json`. */
export interface DevFile {
	http_url: string;
	grpc_url: string;
	/** Null when it runs without that door. */
	nats_url: string | null;
	database_url: string;
	admin_key: string;
	tenants: { id: string; name: string; writer_key: string; reader_key: string }[];
}

/** The folder that a development run keeps everything in. One run at a time has it. */
export interface DataDir {
	readonly path: string;
	readonly postgres: string;
	readonly nats: string;
	/** Made at the first run and kept: everything stored is bound to it. */
	readonly secret: string;
	/** Writes `dev.json`, readable by nobody else: it holds keys. */
	writeDevFile(content: DevFile): void;
	/** Takes `dev.json` away, since nothing it names is running any more, and lets the next run in. */
	release(): void;
}

/**
 * Takes the folder, which is made if it is not there, and ends what a killed run left running in it.
 *
 * @throws CannotStart if another run has it
 */
export async function claimDataDir(directory: string): Promise<DataDir> {
	const path = resolve(directory);
	mkdirSync(path, { recursive: true });
	const pidFile = join(path, "dev.pid");
	const devFile = join(path, "dev.json");
	await endPreviousRun(pidFile, path);
	const dataDir = {
		path,
		postgres: join(path, "postgres"),
		nats: join(path, "nats"),
		writeDevFile: (content: DevFile) => replaceFile(devFile, `${JSON.stringify(content, null, 2)}\n`),
		release: () => {
			rmSync(devFile, { force: true });
			rmSync(pidFile, { force: true });
		},
	};
	rmSync(devFile, { force: true });
	replaceFile(pidFile, [process.pid, startMark(process.pid), process.ppid, startMark(process.ppid)].join("\n"));
	await endLeftovers(dataDir);
	return { ...dataDir, secret: keptSecret(join(path, "secret")) };
}

/**
 * A run whose parent is gone was left behind: killing `make` does not reach it, and it may not have noticed yet. One with
 * its parent belongs to somebody.
 */
async function endPreviousRun(pidFile: string, path: string): Promise<void> {
	const [pid, mark, parent, parentMark] = readLines(pidFile);
	if (pid === undefined || !isSame(Number(pid), mark)) return;
	if (isSame(Number(parent), parentMark)) {
		throw new CannotStart(
			`process ${pid} already runs in ${path}: stop it first (kill ${pid}), or set DATA_DIR to another folder`,
		);
	}
	await endProcess(Number(pid), "SIGTERM", 20_000);
}

function isSame(pid: number, mark: string | undefined): boolean {
	return isRunning(pid) && startMark(pid) === mark;
}

function readLines(file: string): string[] {
	try {
		return readFileSync(file, "utf8").split("\n");
	} catch {
		return [];
	}
}

function keptSecret(file: string): string {
	const [kept] = readLines(file);
	if (kept) return kept;
	const secret = randomBytes(32).toString("hex");
	replaceFile(file, `${secret}\n`);
	return secret;
}

/** At no moment is half a file there to be read. */
function replaceFile(file: string, content: string): void {
	writeFileSync(`${file}.new`, content, { mode: 0o600 });
	renameSync(`${file}.new`, file);
}
