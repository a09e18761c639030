import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startInBackground } from "../../src/dev/background-process.ts";
import { unpackDebianPackage } from "../../src/dev/debian-package.ts";
import { freePort } from "../../src/dev/free-port.ts";
import { runAsFor } from "../../src/dev/run-as.ts";
import { ownDirectory } from "./services.ts";

export interface PgBouncer {
	/** The database's URL, through the pooler. */
	readonly url: string;
	stop(): Promise<void>;
}

const CACHE = join(import.meta.dirname, "..", "..", "node_modules", ".cache", "auditlog");
/** The program, and what it needs that a small Debian does not have. */
const PACKAGES = [["pgbouncer"], ["libc-ares2"], ["libevent-2.1-7", "libevent-2.1-7t64"]];

/**
 * A PgBouncer in front of one database, in transaction mode: each transaction of a client may run on another connection,
 * and so few of them that clients share. It comes from PATH, else from Debian's packages for the release this machine runs.
 *
 * @param userlist the text of its userlist.txt: who may come, with passwords
 */
export async function startPgBouncer(databaseUrl: string, userlist: string): Promise<PgBouncer> {
	const { program, libraries } = await findPgBouncer();
	const target = new URL(databaseUrl);
	const folder = ownDirectory("pgbouncer");
	mkdirSync(folder);
	const port = await freePort();
	const files = { "userlist.txt": userlist, "pgbouncer.ini": configuration(folder, target, port) };
	for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text, { mode: 0o600 });
	const runAs = runAsFor([join(program, "..")], folder);
	if (runAs.owner) {
		const { uid, gid } = runAs.owner;
		for (const path of [folder, ...Object.keys(files).map((name) => join(folder, name))]) chownSync(path, uid, gid);
	} else chmodSync(folder, 0o700);
	const server = await startInBackground({
		...runAs.around(program, [join(folder, "pgbouncer.ini")]),
		env: { LD_LIBRARY_PATH: libraries.join(":") },
		logFile: join(folder, "pgbouncer.log"),
		ready: /process up/,
		stopSignal: "SIGINT",
		lastSignal: "SIGKILL",
		stopDeadlineMs: 5_000,
		startDeadlineMs: 10_000,
	});
	target.port = String(port);
	return { url: target.href, stop: () => server.stop() };
}

function configuration(folder: string, { hostname, port, pathname }: URL, listenPort: number): string {
	const database = pathname.slice(1);
	return `[databases]
${database} = host=${hostname} port=${port} dbname=${database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listenPort}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${join(folder, "userlist.txt")}
pool_mode = transaction
default_pool_size = 2
`;
}

async function findPgBouncer(): Promise<{ program: string; libraries: string[] }> {
	const installed = spawnSync("sh", ["-c", "command -v pgbouncer || command -v /usr/sbin/pgbouncer"], {
		encoding: "utf8",
	});
	if (installed.status === 0) return { program: installed.stdout.trim(), libraries: [] };
	const release = /^VERSION_CODENAME=(\w+)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
	const folders: string[] = [];
	for (const names of PACKAGES) folders.push(await unpackFirst(names, release));
	const libraries = folders.flatMap((folder) => {
		const lib = join(folder, "usr", "lib");
		return existsSync(lib) ? readdirSync(lib).map((name) => join(lib, name)) : [];
	});
	return { program: join(folders[0] ?? "", "usr", "sbin", "pgbouncer"), libraries };
}

/** A library's package has another name in some releases. */
async function unpackFirst(names: readonly string[], release: string | undefined): Promise<string> {
	for (const [i, name] of names.entries()) {
		const folder = join(CACHE, `${name}-${release}`);
		try {
			if (!existsSync(folder)) await unpackDebianPackage(name, folder, release);
			return folder;
		} catch (error) {
			if (i === names.length - 1) throw error;
		}
	}
	throw new Error("no package is named");
}
