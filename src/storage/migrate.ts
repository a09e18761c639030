import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Kysely, PostgresDialect, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import pg from "pg";
import { deriveKeys, rolePassword } from "../auth/secret.ts";
import { AuditError } from "../errors.ts";
import { manifestMac } from "../integrity/manifest.ts";
import { ROLE_LIMITS_MS, WITHOUT_COPY } from "./db.ts";
import {
	MIGRATION_SCHEMA,
	MIGRATIONS_FOLDER,
	migrationNames,
	refuseNewer,
	showVersionToService,
} from "./schema-version.ts";

/** The roles the service logs in as; `audit_owner` never logs in. */
export const LOGIN_ROLES = Object.keys(ROLE_LIMITS_MS);

const OLDEST_POSTGRES = 15;

export interface Migrated {
	/** The names of the migrations that were applied now. */
	readonly applied: string[];
	/** What the database cannot do for the service, in words for people. */
	readonly notes: string[];
}

/**
 * Brings the database to this version's schema and gives the service's roles the passwords derived from the secret.
 * Needs the connection of a superuser, or of an owner with CREATEROLE, once; the service itself never has one. Runs of
 * several replicas wait for each other.
 */
export async function migrate(options: { databaseUrl: string; secret: string }): Promise<Migrated> {
	const pool = new pg.Pool({ connectionString: options.databaseUrl, max: 2, connectionTimeoutMillis: 10_000 });
	pool.on("error", () => {});
	const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
	try {
		const { rows } = await pool.query<{ version: string }>("SELECT current_setting('server_version') AS version");
		refuseOldServer(rows[0]?.version ?? "");
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
		await setUpRoles(pool, options.secret);
		await refuseTemporaryObjects(pool);
		return { applied: (results ?? []).map((result) => result.migrationName), notes: await notesOn(pool) };
	} finally {
		await db.destroy();
	}
}

/** @param version the server's, such as `15.18 (Debian 15.18-1)` or `19beta1` */
export function refuseOldServer(version: string): void {
	if (Number.parseInt(version, 10) >= OLDEST_POSTGRES) return;
	const message = `PostgreSQL ${OLDEST_POSTGRES} or newer is needed; this is ${version}`;
	throw new AuditError("failed_precondition", message, { reason: "OLD_POSTGRES" });
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
	const newest = await newestManifest(pool);
	if (!newest || newest.mac.equals(manifestMac(deriveKeys(secret).manifests, newest.chain))) return;
	throw new AuditError(
		"failed_precondition",
		"this database's trail was written with another AUDIT_SECRET: give that one",
		{
			reason: "OTHER_SECRET",
		},
	);
}

/** As the owner: whoever migrates need not have its rights without asking. */
async function newestManifest(pool: pg.Pool): Promise<{ chain: Buffer; mac: Buffer } | undefined> {
	const client = await pool.connect();
	try {
		await client.query("BEGIN; SET LOCAL ROLE audit_owner");
		const { rows } = await client.query("SELECT chain, mac FROM audit.manifests ORDER BY batch_no DESC LIMIT 1");
		await client.query("COMMIT");
		return rows[0];
	} finally {
		client.release(true);
	}
}

/** Gives the roles their passwords and time limits. */
async function setUpRoles(pool: pg.Pool, secret: string): Promise<void> {
	const keys = deriveKeys(secret);
	for (const [role, limits] of Object.entries(ROLE_LIMITS_MS)) {
		const verifier = scramVerifier(rolePassword(keys, role));
		const settings = Object.entries(limits).map(([name, ms]) => `ALTER ROLE ${role} SET ${name} = '${ms}ms'`);
		const statements = [`ALTER ROLE ${role} LOGIN PASSWORD '${verifier}'`, ...settings];
		// Roles belong to the cluster: a migration of another database may be altering this one at the same moment.
		for (let attempt = 1; ; attempt += 1) {
			try {
				await pool.query(statements.join("; "));
				break;
			} catch (error) {
				if (attempt === 5 || !/concurrently updated/.test((error as Error).message)) throw error;
			}
		}
	}
}

/** Said by 0001, too, but of the database itself: a copy, or a dump that is restored into a new one, has forgotten it. */
async function refuseTemporaryObjects(pool: pg.Pool): Promise<void> {
	await pool.query(`DO $$
BEGIN
  IF has_database_privilege('public', current_database(), 'TEMPORARY') THEN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  END IF;
END $$`);
}

async function notesOn(pool: pg.Pool): Promise<string[]> {
	const { rows } = await pool.query<{ rolbypassrls: boolean }>(
		"SELECT rolbypassrls FROM pg_roles WHERE rolname = 'audit_writer'",
	);
	return rows[0]?.rolbypassrls ? [] : [WITHOUT_COPY];
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
