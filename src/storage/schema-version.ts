import { readdir } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { AuditError } from "../errors.ts";
import { asUnavailable, type Database } from "./db.ts";

/** Where `auditlog migrate` keeps the names of the migrations it has applied. */
export const MIGRATION_SCHEMA = "audit_migrations";
export const MIGRATIONS_FOLDER = join(import.meta.dirname, "../../migrations");

/** The migrations of this version, by name, in their order. */
export async function migrationNames(): Promise<string[]> {
	const files = (await readdir(MIGRATIONS_FOLDER)).filter((file) => file.endsWith(".sql")).sort();
	return files.map((file) => file.replace(/\.sql$/, ""));
}

/** Whether the database has the very schema that this version was written for. Once it had, it is not asked again. */
export class SchemaVersion {
	readonly #db: Database;
	#known = false;

	constructor(db: Database) {
		this.#db = db;
	}

	/**
	 * @throws AuditError failed_precondition (SCHEMA_MISSING, SCHEMA_OLDER, SCHEMA_NEWER, ROLE_REFUSED) saying what to run;
	 * unavailable while the database is away
	 */
	async require(): Promise<void> {
		if (this.#known) return;
		refuseOther(await this.#applied(), await migrationNames());
		this.#known = true;
	}

	async #applied(): Promise<string[]> {
		try {
			const { rows } = await this.#db.writer.query<{ name: string }>(
				`SELECT name FROM ${MIGRATION_SCHEMA}.kysely_migration`,
			);
			return rows.map(({ name }) => name);
		} catch (error) {
			throw explained(error);
		}
	}
}

/** Lets the service's writer see which migrations were applied. By the connection that made the table. */
export async function showVersionToService(owner: pg.Pool): Promise<void> {
	await owner.query(`GRANT USAGE ON SCHEMA ${MIGRATION_SCHEMA} TO audit_writer;
GRANT SELECT ON ${MIGRATION_SCHEMA}.kysely_migration TO audit_writer`);
}

/** Throws if a newer version has migrated the database: this one knows nothing of what it did. */
export async function refuseNewer(owner: pg.Pool): Promise<void> {
	const table = `${MIGRATION_SCHEMA}.kysely_migration`;
	const { rows } = await owner.query<{ made: boolean }>("SELECT to_regclass($1) IS NOT NULL AS made", [table]);
	if (!rows[0]?.made) return;
	const applied = await owner.query<{ name: string }>(`SELECT name FROM ${table}`);
	refuseUnknown(
		applied.rows.map(({ name }) => name),
		await migrationNames(),
	);
}

function refuseOther(applied: readonly string[], wanted: readonly string[]): void {
	refuseUnknown(applied, wanted);
	const missing = wanted.filter((name) => !applied.includes(name));
	if (missing.length > 0) {
		throw refusal(`this database lacks ${missing.join(", ")}: run \`auditlog migrate\``, "SCHEMA_OLDER");
	}
}

function refuseUnknown(applied: readonly string[], wanted: readonly string[]): void {
	const unknown = applied.filter((name) => !wanted.includes(name));
	if (unknown.length === 0) return;
	const message = `a newer version of auditlog has migrated this database (${unknown.join(", ")}): run that version`;
	throw refusal(message, "SCHEMA_NEWER");
}

function explained(error: unknown): unknown {
	const sqlState = (error instanceof pg.DatabaseError && error.code) || "";
	switch (sqlState) {
		case "42P01": // undefined_table
			return refusal(
				"this database has no audit log yet: run `auditlog migrate` as its owner",
				"SCHEMA_MISSING",
				error,
			);
		case "42501": // insufficient_privilege: migrated before the service was let see the table
			return refusal("this database was migrated by an older version: run `auditlog migrate`", "SCHEMA_OLDER", error);
		case "28P01": // invalid_password, also of roles that do not exist
		case "28000": // invalid_authorization_specification
			return refusal(
				"PostgreSQL refused the role audit_writer: run `auditlog migrate` as the database's owner with this AUDIT_SECRET, or give the one it was run with",
				"ROLE_REFUSED",
				error,
			);
		default:
			return asUnavailable(error);
	}
}

function refusal(message: string, reason: string, cause?: unknown): AuditError {
	return new AuditError("failed_precondition", message, { reason, cause });
}
