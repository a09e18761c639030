import pg from "pg";
import { type DerivedKeys, rolePassword } from "../auth/secret.ts";
import { AuditError } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import type { Logger } from "../logger.ts";

/** The service's connections, one pool per role. None of them is the owner's. */
export interface Database {
	/** Appends. Bypasses row-level security where that can be had, can read keys and hashes only. */
	readonly writer: pg.Pool;
	/** Reads events, of one tenant per transaction: see `inTenant`. */
	readonly reader: pg.Pool;
	/** Looks API keys up: apart from `reader`, so that slow searches keep nobody out. */
	readonly keys: pg.Pool;
	/** Makes partitions. */
	readonly maintainer: pg.Pool;
	/**
	 * Whether the writer may use COPY, which PostgreSQL refuses under row-level security. Asked of the database once; the
	 * first answer is logged if it is no.
	 */
	canCopy(writer: pg.ClientBase | pg.Pool): Promise<boolean>;
	/** The answer was wrong after all: the next `canCopy` asks again. */
	forgetCanCopy(): void;
	close(): Promise<void>;
}

/** What it means that the writer is under row-level security. */
export const WITHOUT_COPY =
	"audit_writer has no BYPASSRLS, which takes a superuser to give: events are stored by INSERT, since COPY is refused " +
	"under row-level security. That is slower (docs/portability.md); nothing else differs";

const CONNECT_TIMEOUT_MS = 5_000;
/** How long one statement may run, per role; pg gives up on the answer two seconds later. */
const WRITER_STATEMENT_MS = 10_000;
const READER_STATEMENT_MS = 20_000;

/**
 * The server's time limits for each role, in milliseconds. `migrate` gives them to the roles: a pooler between us and the
 * server refuses a connection that asks for them itself.
 */
export const ROLE_LIMITS_MS = {
	audit_writer: limits(WRITER_STATEMENT_MS),
	audit_reader: limits(READER_STATEMENT_MS),
	audit_maintainer: limits(WRITER_STATEMENT_MS),
	audit_verifier: {},
} satisfies Record<string, Record<string, number>>;

function limits(statementMs: number) {
	return { statement_timeout: statementMs, lock_timeout: 5_000, idle_in_transaction_session_timeout: 15_000 };
}

export function openDatabase(options: { databaseUrl: string; keys: DerivedKeys; logger: Logger }): Database {
	const pool = (role: string, max: number, statementMs: number) => {
		const url = new URL(options.databaseUrl);
		url.username = role;
		url.password = rolePassword(options.keys, role);
		const opened = new pg.Pool({
			connectionString: url.href,
			max,
			application_name: "auditlog",
			connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
			query_timeout: statementMs + 2_000,
			keepAlive: true,
		});
		// An idle connection that breaks is replaced by the pool; without a listener it would end the process.
		// One that breaks in use makes its query fail, and emits the error besides: unheard, that would end the process.
		opened.on("connect", (client) => void client.on("error", () => {}));
		opened.on("error", (error) => options.logger.warn({ role, err: error.message }, "idle database connection lost"));
		return opened;
	};
	const writer = pool("audit_writer", 4, WRITER_STATEMENT_MS);
	const reader = pool("audit_reader", 10, READER_STATEMENT_MS);
	const keys = pool("audit_reader", 2, WRITER_STATEMENT_MS);
	const maintainer = pool("audit_maintainer", 1, WRITER_STATEMENT_MS);
	let canCopy: boolean | undefined;
	return {
		writer,
		reader,
		keys,
		maintainer,
		async canCopy(client) {
			if (canCopy === undefined) {
				const { rows } = await client.query<{ can_copy: boolean }>(
					"SELECT NOT row_security_active('audit.events') AS can_copy",
				);
				// Several may have asked at once: one of them tells.
				const isFirst = canCopy === undefined;
				canCopy = rows[0]?.can_copy === true;
				if (!canCopy && isFirst) options.logger.warn(WITHOUT_COPY);
			}
			return canCopy;
		},
		forgetCanCopy() {
			canCopy = undefined;
		},
		async close() {
			await Promise.all([writer, reader, keys, maintainer].map((p) => p.end()));
		},
	};
}

/**
 * Runs one read-only transaction that sees the events of one tenant and no other: row-level security compares with the
 * setting made here, which ends with the transaction. The only way to events.
 */
export function inTenant<T>(db: Database, tenantId: TenantId, run: (client: pg.PoolClient) => Promise<T>): Promise<T> {
	return readAs(db, { setting: "audit.tenant_id", value: tenantId }, run);
}

/** As `inTenant`, and all statements see the same: what was committed when the first of them began. */
export function inTenantAtOnce<T>(
	db: Database,
	tenantId: TenantId,
	run: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
	return readAs(db, { setting: "audit.tenant_id", value: tenantId }, run, "ISOLATION LEVEL REPEATABLE READ");
}

/** Whose: what is of some tenants, or all there is, also of no known tenant. */
export type Scope = ReadonlySet<TenantId> | "all";

/** As `inTenant`, for dead letters: sees those of the scope and no others. The only way to dead letters. */
export function inLetters<T>(db: Database, scope: Scope, run: (client: pg.PoolClient) => Promise<T>): Promise<T> {
	return readAs(db, { setting: "audit.dead_letters_of", value: scopeText(scope) }, run);
}

/** As `inTenant`, for tenants themselves: sees those of the scope and no others. */
export function inTenants<T>(db: Database, scope: Scope, run: (client: pg.PoolClient) => Promise<T>): Promise<T> {
	return readAs(db, { setting: "audit.tenants_of", value: scopeText(scope) }, run);
}

/** As `inTenant`, for API keys: sees those all of whose tenants are in the scope, never a hash. The only way to a list of them. */
export function inKeys<T>(db: Database, scope: Scope, run: (client: pg.PoolClient) => Promise<T>): Promise<T> {
	return readAs(db, { setting: "audit.keys_of", value: scopeText(scope) }, run);
}

/** Neither the comma nor the star can be in a tenant's id. */
function scopeText(scope: Scope): string {
	return scope === "all" ? "*" : [...scope].join(",");
}

async function readAs<T>(
	db: Database,
	scope: { readonly setting: string; readonly value: string },
	run: (client: pg.PoolClient) => Promise<T>,
	isolation: "" | "ISOLATION LEVEL REPEATABLE READ" = "",
): Promise<T> {
	try {
		const client = await db.reader.connect();
		let failed = true;
		try {
			await client.query(`BEGIN TRANSACTION READ ONLY ${isolation}`);
			await client.query("SELECT set_config($1, $2, true)", [scope.setting, scope.value]);
			const result = await run(client);
			await client.query("COMMIT");
			failed = false;
			return result;
		} finally {
			// After any error the connection's state is unknown (a timed-out query may still answer): never reuse it.
			client.release(failed);
		}
	} catch (error) {
		throw asUnavailable(error);
	}
}

/** SQLSTATE classes that a later try may not meet: the connection, a log-in, the server's resources, a lock, a standby. */
const TRANSIENT = /^(08|28|53|57|40|55P03|25006|XX)/;

/** An error that means "PostgreSQL is away or overloaded" as an AuditError; any other error as it is. */
export function asUnavailable(error: unknown): unknown {
	if (error instanceof AuditError || !isTransient(error)) return error;
	return new AuditError("unavailable", "the database is away; try again", {
		reason: "DATABASE_UNAVAILABLE",
		retryAfterMs: 1_000,
		cause: error,
	});
}

/** What Node and `pg` say when a connection cannot be had, breaks, or stops answering. */
const CONNECTION_TROUBLE =
	/ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|[Cc]onnection terminated|timeout|not queryable|Client was closed|Premature close/;

function isTransient(error: unknown): boolean {
	if (error instanceof pg.DatabaseError) return TRANSIENT.test(error.code ?? "");
	if (!(error instanceof Error)) return false;
	return CONNECTION_TROUBLE.test(`${(error as NodeJS.ErrnoException).code} ${error.message}`);
}
