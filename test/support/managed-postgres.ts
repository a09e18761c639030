import { randomBytes } from "node:crypto";
import { Client } from "pg";

/** A database as a provider of managed PostgreSQL gives it: its owner is no superuser and cannot give BYPASSRLS. */
export interface ManagedDatabase {
	/** Reaches it as its owner. */
	readonly url: string;
	readonly owner: string;
}

/**
 * Makes an owner and a database of its own.
 *
 * @param superuserUrl reaches any database of the cluster as superuser, which no later step needs
 */
export async function createManagedDatabase(superuserUrl: string): Promise<ManagedDatabase> {
	const name = `managed_${randomBytes(6).toString("hex")}`;
	const password = randomBytes(12).toString("hex");
	const superuser = new Client({ connectionString: superuserUrl });
	await superuser.connect();
	try {
		const attributes = "LOGIN CREATEROLE CREATEDB NOSUPERUSER NOBYPASSRLS";
		await superuser.query(`CREATE ROLE ${name} ${attributes} PASSWORD '${password}'`);
		await superuser.query(`CREATE DATABASE ${name} OWNER ${name}`);
	} finally {
		await superuser.end();
	}
	const url = new URL(superuserUrl);
	url.username = name;
	url.password = password;
	url.pathname = `/${name}`;
	return { url: url.href, owner: name };
}
