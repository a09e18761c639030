import { execFileSync } from "node:child_process";
import { accessSync, constants, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { processEnvironment } from "../config.ts";
import { unpackDebianPackage } from "./debian-package.ts";

export interface NatsServer {
	readonly binary: string;
	/** Such as `2.10.27`. */
	readonly version: string;
}

/** Oldest that has what the NATS door uses. */
const MIN_VERSION = "2.9";
/** Oldest that can sync to disk before it acknowledges. */
const GOOD_VERSION = "2.10";

const HOW_TO_GET = `Install nats-server ${GOOD_VERSION} or newer, set NATS_SERVER_BIN to one, or set NATS_URL to a running server with JetStream.`;

/**
 * A nats-server to run: NATS_SERVER_BIN, an installed one, the one fetched earlier, else Debian's package, unpacked into
 * the user's cache. An installed one that cannot sync before it acknowledges is the last choice.
 */
export async function findNatsServer(): Promise<NatsServer | { unavailable: string }> {
	const env = processEnvironment();
	const chosen = env["NATS_SERVER_BIN"];
	if (chosen) {
		const server = inspect(chosen);
		if (server && atLeast(server.version, MIN_VERSION)) return server;
		return { unavailable: `NATS_SERVER_BIN (${chosen}) is not a nats-server ${MIN_VERSION} or newer. ${HOW_TO_GET}` };
	}
	const path = (env["PATH"] ?? "").split(":").filter((directory) => directory.startsWith("/"));
	const places = [...path, "/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"];
	const installed = places.map((directory) => inspect(join(directory, "nats-server"))).filter((server) => !!server);
	const cache = join(cacheDirectory(env["XDG_CACHE_HOME"]), `nats-server-${process.arch}`);
	const cached = inspect(join(cache, "usr", "sbin", "nats-server"));

	const good = [...installed, cached].find((server) => server && atLeast(server.version, GOOD_VERSION));
	if (good) return good;
	const [why, fetched] = await fetchServer(cache);
	const usable = fetched ?? installed.find((server) => atLeast(server.version, MIN_VERSION));
	return (
		usable ?? { unavailable: `No nats-server was found, and Debian's package cannot be had: ${why}. ${HOW_TO_GET}` }
	);
}

/** Whether a dotted version is that of `least` or newer. */
export function atLeast(version: string, least: string): boolean {
	return version.localeCompare(least, "en", { numeric: true }) >= 0;
}

/** Shared by all checkouts of a user; the checkout's own where the user has none that can be written. */
function cacheDirectory(xdgCacheHome: string | undefined): string {
	const directory = join(xdgCacheHome || join(homedir(), ".cache"), "auditlog");
	try {
		mkdirSync(directory, { recursive: true });
		accessSync(directory, constants.W_OK);
		return directory;
	} catch {
		return join(import.meta.dirname, "..", "..", "node_modules", ".cache", "auditlog");
	}
}

async function fetchServer(directory: string): Promise<[why: string, server?: NatsServer]> {
	try {
		await unpackDebianPackage("nats-server", directory);
		const server = inspect(join(directory, "usr", "sbin", "nats-server"));
		return server ? ["", server] : ["the one in it does not run on this machine"];
	} catch (error) {
		return [(error as Error).message];
	}
}

/** The server at a path, or undefined when there is none that runs here. */
function inspect(binary: string): NatsServer | undefined {
	try {
		accessSync(binary, constants.X_OK);
		const said = execFileSync(binary, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
		const version = /v(\d+\.\d+\.\d+)/.exec(said)?.[1];
		return version === undefined ? undefined : { binary, version };
	} catch {
		return undefined;
	}
}
