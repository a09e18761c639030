import pg from "pg";
import { type DerivedKeys, deriveKeys } from "../auth/secret.ts";
import type { Environment } from "../config.ts";
import { asDatabaseErrors } from "./database-error.ts";
import { readDatabaseSettings } from "./settings.ts";

/** What work on the database itself needs. */
export interface Owner {
	databaseUrl: string;
	keys: DerivedKeys;
}

/**
 * For whoever has the database that the environment, or the `make run` that ran here, names: shown by logging in as the user of
 * its URL. That the secret is the database's own shows when the work logs in as one of the service's roles.
 */
export async function asOwner<T>(env: Environment, work: (owner: Owner) => Promise<T>): Promise<T> {
	const { databaseUrl, secret } = readDatabaseSettings(env);
	return asDatabaseErrors(async () => {
		const admin = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: 10_000 });
		// One that breaks in use makes its query fail, and emits the error besides.
		admin.on("error", () => {});
		await admin.connect();
		try {
			// Fails if it was never migrated, which the log-in of a role that is not there would not tell.
			await admin.query("SELECT 'audit.tenants'::regclass");
		} finally {
			await admin.end();
		}
		return work({ databaseUrl, keys: deriveKeys(secret) });
	});
}
