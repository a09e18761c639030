import { create } from "@bufbuild/protobuf";
import pg from "pg";
import { pino } from "pino";
import { NOTHING_MASKED } from "../src/auth/principal.ts";
import { deriveKeys, rolePassword } from "../src/auth/secret.ts";
import type { Closer } from "../src/closer.ts";
import type { TenantId } from "../src/event/event.ts";
import { QueryRequestSchema } from "../src/gen/audit/v1/audit_service_pb.ts";
import { Query } from "../src/query/query.ts";
import { openDatabase } from "../src/storage/db.ts";
import type { Request } from "./read-calls.ts";
import { SECRET } from "./service.ts";

/** Statements as they were sent: a text, or a text with its values. */
export type Statement = string | pg.QueryConfig;

/**
 * The same SQL through bare `pg`: what the service's own code sends for a search is listed once, then sent again, one
 * statement after the other, by a client of the same role that does nothing with the rows.
 */
export class BareReader {
	readonly #client: pg.Client;
	readonly #databaseUrl: string;

	private constructor(client: pg.Client, databaseUrl: string) {
		this.#client = client;
		this.#databaseUrl = databaseUrl;
	}

	static async open(closer: Closer, databaseUrl: string): Promise<BareReader> {
		const url = new URL(databaseUrl);
		url.username = "audit_reader";
		url.password = rolePassword(deriveKeys(SECRET), "audit_reader");
		const client = new pg.Client({ connectionString: url.href });
		await client.connect();
		closer.add(client, (c) => c.end());
		return new BareReader(client, databaseUrl);
	}

	/** From BEGIN to COMMIT. @param request with its page token, if it has one */
	async statementsOf(request: Request): Promise<Statement[]> {
		const keys = deriveKeys(SECRET);
		const db = openDatabase({ databaseUrl: this.#databaseUrl, keys, logger: pino({ level: "error" }) });
		const statements: Statement[] = [];
		db.reader.on("connect", (client) => {
			const send = client.query.bind(client) as (...args: unknown[]) => Promise<unknown>;
			const list = (statement: Statement, values?: unknown[]) => {
				statements.push(typeof statement === "string" && values ? { text: statement, values } : statement);
				return send(statement, values);
			};
			Object.assign(client, { query: list });
		});
		try {
			const query = new Query({ db, pageTokenKey: keys.pageTokens });
			await query.search(create(QueryRequestSchema, request), request.tenantId as TenantId, NOTHING_MASKED);
		} finally {
			await db.close();
		}
		return statements;
	}

	async send(statements: readonly Statement[]): Promise<void> {
		for (const statement of statements) await this.#client.query(statement);
	}
}
