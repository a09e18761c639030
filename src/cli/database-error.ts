import { AuditError } from "../errors.ts";
import { CommandError } from "./command-line.ts";

/** Does work on the database itself; what PostgreSQL refuses comes as an error that says what to do. */
export async function asDatabaseErrors<T>(work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		const advice = databaseAdvice(error);
		if (advice === undefined) throw error;
		throw new CommandError(advice, { cause: error });
	}
}

/** What to do about an error of PostgreSQL or of the way to it; undefined where it is something else. */
export function databaseAdvice(error: unknown): string | undefined {
	if (!(error instanceof Error)) return undefined;
	// The service's own words hide the cause, which says more to whoever has the database at hand.
	if (error instanceof AuditError) return error.cause ? databaseAdvice(error.cause) : undefined;
	const { code = "" } = error as NodeJS.ErrnoException;
	const role = /role "?(audit_\w+)|user "?(audit_\w+)/.exec(error.message);
	const said = error.message || code;
	// One role's password is derived from the secret; a table, schema or role that is missing was never made here.
	// PostgreSQL says the same of a role that is not there: nobody ever migrated then.
	if (code === "28P01" && role) {
		return `${said}: run \`auditlog migrate\` first, or set AUDIT_SECRET to the one it ran with`;
	}
	if (code === "28P01" || code === "28000") return `${said}: check user and password in DATABASE_URL`;
	if (code === "3D000") return `${said}: create it (createdb), or name another in DATABASE_URL`;
	if (NOT_MIGRATED.has(code)) return `${said}: run \`auditlog migrate\` first, with the same DATABASE_URL`;
	if (code === "42501") return `${said}: DATABASE_URL must name the database's owner or a superuser for this`;
	if (UNREACHABLE.test(`${code} ${error.message}`)) {
		return `PostgreSQL cannot be reached (${said}): is it running, and is DATABASE_URL right?`;
	}
	return undefined;
}

/** undefined_table, invalid_schema_name, undefined_function, undefined_object and SET ROLE to one there is not. */
const NOT_MIGRATED = new Set(["42P01", "3F000", "42883", "42704", "22023"]);

const UNREACHABLE =
	/ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|Connection terminated|timeout exp/;
