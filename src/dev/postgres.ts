import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BackgroundProcess, StartFailed, startInBackground } from "./background-process.ts";
import { CannotStart } from "./cannot-start.ts";
import { freePort } from "./free-port.ts";
import { findPostgres } from "./postgres-binaries.ts";
import { type RunAs, runAsFor } from "./run-as.ts";

/** A PostgreSQL of our own, on the loopback address. */
export interface Postgres extends BackgroundProcess {
	/** Reaches the database `postgres` as the superuser `postgres`, password included. */
	readonly url: string;
	readonly port: number;
}

export interface PostgresOptions {
	/** Ours alone: holds the cluster, its password and its log. */
	dataDir: string;
	/** The port to take if it is free; another is found when it is not. Absent: any. */
	port?: number;
	/** Server settings beside our own, as `name: value`. */
	settings?: Readonly<Record<string, string>>;
}

const SETTINGS = {
	listen_addresses: "127.0.0.1",
	// No socket file: its path may be too long, and the loopback port is enough.
	unix_socket_directories: "",
	shared_buffers: "256MB",
	max_wal_size: "2GB",
	timezone: "UTC",
	log_timezone: "UTC",
	// Rows and parameters hold what tenants wrote: none of it belongs in a server log.
	log_error_verbosity: "terse",
	log_min_error_statement: "panic",
};

/**
 * Starts the cluster kept in `dataDir`, which is made when it is not there. PostgreSQL refuses to run as root: then it
 * runs as `nobody`. `stop` is a fast shutdown: open transactions are rolled back and everything is on disk.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
	const dataDir = resolve(options.dataDir);
	const binaries = findPostgres();
	mkdirSync(dataDir, { recursive: true, mode: 0o700 });
	const runAs = runAsFor(binaries.directories, dataDir);
	if (runAs.owner) chownSync(dataDir, runAs.owner.uid, runAs.owner.gid);
	if (!existsSync(join(dataDir, "cluster"))) initCluster(binaries.initdb, dataDir, runAs);
	const password = readFileSync(join(dataDir, "password"), "utf8");

	for (let attempt = 1; ; attempt++) {
		const port = await freePort(options.port);
		try {
			const server = await launch(binaries.postgres, dataDir, port, runAs, options.settings);
			return { ...server, port, url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres` };
		} catch (error) {
			// Somebody took the port between our look and PostgreSQL's, or the children of a killed server still hold the cluster.
			const passes = error instanceof StartFailed && /could not bind|shared memory block/.test(error.log);
			if (!passes || attempt === 20) throw error;
			await new Promise((wake) => setTimeout(wake, 100));
		}
	}
}

function launch(postgres: string, dataDir: string, port: number, runAs: RunAs, extra = {}): Promise<BackgroundProcess> {
	const settings = Object.entries({ ...SETTINGS, ...extra, port: String(port) });
	return startInBackground({
		...runAs.around(postgres, [
			"-D",
			join(dataDir, "cluster"),
			...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
		]),
		env: {},
		logFile: join(dataDir, "postgres.log"),
		ready: /database system is ready to accept connections/,
		stopSignal: "SIGINT",
		lastSignal: "SIGQUIT",
		stopDeadlineMs: 20_000,
		// Long: after a crash it replays its log first.
		startDeadlineMs: 60_000,
	});
}

/** Makes the cluster under another name first: a run that dies half way leaves nothing that looks complete. */
function initCluster(initdb: string, dataDir: string, runAs: RunAs): void {
	const unfinished = join(dataDir, "cluster.new");
	const passwordFile = join(dataDir, "password");
	rmSync(unfinished, { recursive: true, force: true });
	rmSync(passwordFile, { force: true });
	writeFileSync(passwordFile, randomBytes(24).toString("base64url"), { mode: 0o600 });
	if (runAs.owner) chownSync(passwordFile, runAs.owner.uid, runAs.owner.gid);

	const locale = process.platform === "linux" ? "C.UTF-8" : "C";
	const access = ["-U", "postgres", "-A", "scram-sha-256", `--pwfile=${passwordFile}`];
	const format = ["-E", "UTF8", `--locale=${locale}`, "--no-sync"];
	const { command, args, ...identity } = runAs.around(initdb, ["-D", unfinished, ...access, ...format]);
	const result = spawnSync(command, args, { cwd: "/", env: {}, encoding: "utf8", ...identity });
	if (result.status !== 0) {
		const said = result.error?.message ?? `${result.stdout}${result.stderr}`;
		throw new CannotStart(`a PostgreSQL cluster cannot be made in ${dataDir}:\n${said.trimEnd()}`);
	}
	if (runAs.owner) chownSync(passwordFile, 0, 0);
	renameSync(unfinished, join(dataDir, "cluster"));
}
