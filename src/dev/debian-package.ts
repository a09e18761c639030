import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The release whose packages are taken unless another is asked for, whichever the machine runs: its nats-server is new enough. */
const RELEASE = "trixie";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/**
 * Downloads a package from the Debian archive this machine already uses and unpacks it into a directory. Needs no root and
 * leaves the system's packages alone: apt works on a state of its own, and checks the archive's signature as ever.
 * Safe to run twice at once: each unpacks for itself and the first to finish wins.
 *
 * @param release Debian's name of the release to take it from
 */
export async function unpackDebianPackage(name: string, directory: string, release = RELEASE): Promise<void> {
	await mkdir(dirname(directory), { recursive: true });
	const work = await mkdtemp(join(dirname(directory), `.${name}-`));
	try {
		await download(name, await archiveUrl(), release, work);
		const file = (await readdir(work)).find((entry) => entry.endsWith(".deb"));
		if (!file) throw new Error("apt-get downloaded nothing");
		await runQuietly("dpkg-deb", ["-x", join(work, file), join(work, "unpacked")]);
		await putInPlace(join(work, "unpacked"), directory);
	} finally {
		await rm(work, { recursive: true, force: true });
	}
}

/** The archive as this machine reaches it: perhaps a mirror. */
async function archiveUrl(): Promise<string> {
	const targets = ["indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"];
	const urls = (await runQuietly("apt-get", targets)).split("\n");
	const url = urls.find((candidate) => /\/debian\/?$/.test(candidate));
	if (!url || !existsSync(KEYRING)) throw new Error("this machine's apt knows no Debian archive");
	return url;
}

async function download(name: string, archive: string, release: string, work: string): Promise<void> {
	await mkdir(join(work, "state", "lists", "partial"), { recursive: true });
	await mkdir(join(work, "cache", "archives", "partial"), { recursive: true });
	await writeFile(join(work, "status"), "");
	await writeFile(join(work, "sources.list"), `deb [signed-by=${KEYRING}] ${archive} ${release} main\n`);
	const settings = {
		"Dir::Etc::sourcelist": join(work, "sources.list"),
		"Dir::Etc::sourceparts": "/dev/null",
		"Dir::State": join(work, "state"),
		"Dir::State::status": join(work, "status"),
		"Dir::Cache": join(work, "cache"),
		"Acquire::Languages": "none",
		"Acquire::http::Timeout": "20",
		"Acquire::Retries": "1",
		"APT::Sandbox::User": "",
		"Debug::NoLocking": "1",
	};
	const config = Object.entries(settings).map(([key, value]) => `${key} ${JSON.stringify(value)};\n`);
	await writeFile(join(work, "apt.conf"), config.join(""));
	await runQuietly("apt-get", ["-qq", "-c", join(work, "apt.conf"), "update"], work);
	await runQuietly("apt-get", ["-qq", "-c", join(work, "apt.conf"), "download", name], work);
}

async function putInPlace(unpacked: string, directory: string): Promise<void> {
	try {
		await rename(unpacked, directory);
	} catch (error) {
		// Another run was faster. What it renamed is complete.
		if (!existsSync(directory)) throw error;
	}
}

/** Runs a program, and makes what it complained about the error's message. */
async function runQuietly(command: string, args: readonly string[], cwd = "/"): Promise<string> {
	try {
		return (await run(command, args, { cwd, timeout: 90_000 })).stdout;
	} catch (error) {
		const { code, stderr, message } = error as Error & { code?: unknown; stderr?: string };
		if (code === "ENOENT") throw new Error(`there is no ${command} here`, { cause: error });
		const complaint = stderr?.trim().split("\n").at(-1) || message;
		throw new Error(`${command} said "${complaint}"`, { cause: error });
	}
}
