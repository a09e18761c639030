import pg from "pg";
import { type DerivedKeys, deriveKeys, rolePassword } from "../auth/secret.ts";
import type { Environment } from "../config.ts";
import { asDatabaseErrors } from "./database-error.ts";
import { readDatabaseSettings } from "./settings.ts";

/** What work on the database itself needs. */
export interface Owner {
	/** Connected as the user of DATABASE_URL, who may become `audit_owner`. */
	admin: pg.Client;
	databaseUrl: string;
	keys: DerivedKeys;
}

/**
 * Connects to the database that the environment, or the `make run` that ran here, names.
 *
 * The secret is tried first: a key made with another one would be refused by the service, and nobody would know why.
 */
export async function asOwner<T>(env: Environment, work: (owner: Owner) => Promise<T>): Promise<T> {
	const { databaseUrl, secret } = readDatabaseSettings(env);
	const keys = deriveKeys(secret);
	return asDatabaseErrors(() =>
		withClient(databaseUrl, async (admin) => {
			// Fails if it was never migrated, which the log-in of a role that is not there would not tell.
			await admin.query("SELECT 'audit.tenants'::regclass");
			const url = new URL(databaseUrl);
			url.username = "audit_reader";
			url.password = rolePassword(keys, "audit_reader");
			await withClient(url.href, async () => {});
			return work({ admin, databaseUrl, keys });
		}),
	);
}

async function withClient<T>(connectionString: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
	const client = new pg.Client({ connectionString, connectionTimeoutMillis: 10_000 });
	// One that breaks in use makes its query fail, and emits the error besides.
	client.on("error", () => {});
	await client.connect();
	try {
		return await use(client);
	} finally {
		await client.end();
	}
}
