import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, type Environment, loadConfig } from "../config.ts";
import { CommandError } from "./command-line.ts";
import { dataDir, readDevFile } from "./service-address.ts";

/** The service's settings, from the environment alone. */
export function readSettings(env: Environment): Config {
	try {
		return loadConfig(env);
	} catch (cause) {
		throw new CommandError((cause as Error).message, { cause });
	}
}

/** The settings for work on the database itself: from the environment, else those of the `make run` that ran here. */
export function readDatabaseSettings(env: Environment): Config {
	if (env.DATABASE_URL || env.DATABASE_URL_FILE) return readSettings(env);
	const dev = readDevFile(env);
	if (!dev) {
		const where = join(dataDir(env), "dev.json");
		throw new CommandError(
			`no database found: start one with \`make run\` (it writes ${where}), or set DATABASE_URL and AUDIT_SECRET`,
		);
	}
	const secret = env.AUDIT_SECRET || env.AUDIT_SECRET_FILE ? {} : { AUDIT_SECRET: readDevSecret(env) };
	return readSettings({ ...env, DATABASE_URL: dev.database_url, ...secret });
}

function readDevSecret(env: Environment): string {
	const path = join(dataDir(env), "secret");
	try {
		return readFileSync(path, "utf8").trim();
	} catch (cause) {
		const { code } = cause as NodeJS.ErrnoException;
		throw new CommandError(`${path} cannot be read (${code}): set AUDIT_SECRET and DATABASE_URL`, { cause });
	}
}
