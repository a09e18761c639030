import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Kysely, PostgresDialect, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import pg from "pg";
import { deriveKeys, rolePassword } from "../auth/secret.ts";
import { AuditError } from "../errors.ts";
import { manifestMac } from "../integrity/manifest.ts";
import {
	MIGRATION_SCHEMA,
	MIGRATIONS_FOLDER,
	migrationNames,
	refuseNewer,
	showVersionToService,
} from "./schema-version.ts";

/** The roles the service logs in as; `audit_owner` never logs in. */
const LOGIN_ROLES = ["audit_writer", "audit_reader", "audit_maintainer", "audit_verifier"];

/**
 * Brings the database to this version's schema and gives the service's roles the passwords derived from the secret.
 * Needs an owner's connection, once; the service itself never has one. Runs of several replicas wait for each other.
 *
 * @returns the names of the migrations that were applied now
 */
export async function migrate(options: { databaseUrl: string; secret: string }): Promise<{ applied: string[] }> {
	const pool = new pg.Pool({ connectionString: options.databaseUrl, max: 2, connectionTimeoutMillis: 10_000 });
	pool.on("error", () => {});
	const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
	try {
		const migrator = new Migrator({
			db,
			provider: { getMigrations: readMigrations },
			migrationTableSchema: MIGRATION_SCHEMA,
		});
		await refuseNewer(pool);
		const { error, results } = await migrator.migrateToLatest();
		if (error) throw error;
		await showVersionToService(pool);
		await refuseOtherSecret(pool, options.secret);
		await setPasswords(pool, options.secret);
		return { applied: (results ?? []).map((result) => result.migrationName) };
	} finally {
		await db.destroy();
	}
}

/** The SQL files of `migrations/`, by name. Forward only. */
async function readMigrations(): Promise<Record<string, Migration>> {
	const migrations: Record<string, Migration> = {};
	for (const name of await migrationNames()) {
		const text = await readFile(join(MIGRATIONS_FOLDER, `${name}.sql`), "utf8");
		migrations[name] = {
			async up(db) {
				await sql.raw(text).execute(db);
			},
		};
	}
	return migrations;
}

/**
 * A trail goes on with the secret it began with. With another one the roles would lock the running service out, and once
 * batches of two secrets are in one chain, neither proves it.
 */
async function refuseOtherSecret(pool: pg.Pool, secret: string): Promise<void> {
	const { rows } = await pool.query<{ chain: Buffer; mac: Buffer }>(
		"SELECT chain, mac FROM audit.manifests ORDER BY batch_no DESC LIMIT 1",
	);
	const [newest] = rows;
	if (!newest || newest.mac.equals(manifestMac(deriveKeys(secret).manifests, newest.chain))) return;
	throw new AuditError(
		"failed_precondition",
		"this database's trail was written with another AUDIT_SECRET: give that one",
		{
			reason: "OTHER_SECRET",
		},
	);
}

async function setPasswords(pool: pg.Pool, secret: string): Promise<void> {
	const keys = deriveKeys(secret);
	for (const role of LOGIN_ROLES) {
		const verifier = scramVerifier(rolePassword(keys, role));
		// Roles belong to the cluster: a migration of another database may be altering this one at the same moment.
		for (let attempt = 1; ; attempt += 1) {
			try {
				await pool.query(`ALTER ROLE ${role} LOGIN PASSWORD '${verifier}'`);
				break;
			} catch (error) {
				if (attempt === 5 || !/concurrently updated/.test((error as Error).message)) throw error;
			}
		}
	}
}

/** RFC 5803: what PostgreSQL stores of a password. Sent instead of the password, so that no server log ever holds it. */
function scramVerifier(password: string): string {
	const salt = randomBytes(16);
	const iterations = 4096;
	const salted = pbkdf2Sync(password, salt, iterations, 32, "sha256");
	const clientKey = createHmac("sha256", salted).update("Client Key").digest();
	const storedKey = createHash("sha256").update(clientKey).digest("base64");
	const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
	return `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}
