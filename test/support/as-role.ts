import { Client } from "pg";
import { deriveKeys, rolePassword } from "../../src/auth/secret.ts";
import { testSecret } from "./services.ts";

/** The roles the service logs in as. */
export const LOGIN_ROLES = ["audit_writer", "audit_reader", "audit_maintainer", "audit_verifier"] as const;

/** Lends a connection of one of the service's roles, over its real login. */
export async function asRole<T>(databaseUrl: string, role: string, run: (client: Client) => Promise<T>): Promise<T> {
	const url = new URL(databaseUrl);
	url.username = role;
	url.password = rolePassword(deriveKeys(testSecret()), role);
	const client = new Client({ connectionString: url.href });
	await client.connect();
	try {
		return await run(client);
	} finally {
		await client.end();
	}
}
