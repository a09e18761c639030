import pg from "pg";
import type { Closer } from "../src/closer.ts";

/** What a call made the database touch: 8 KiB blocks, found in its memory or read, of tables, indexes and catalogues. */
export interface Blocks {
	/** By the role that reads: the search itself, planned and run, with all that goes around it. */
	readonly reading: number;
	/** By the role that writes: that the log was read is recorded in it. */
	readonly recording: number;
}

/** Settings of a PostgreSQL whose blocks are to be counted. */
export const COUNTING = { shared_preload_libraries: "pg_stat_statements", "pg_stat_statements.track_planning": "on" };

/**
 * Counts the blocks that a running service's calls touch.
 *
 * By pg_stat_statements, which adds up `shared_blks_hit + shared_blks_read` of each statement as it ends, for whoever ran it:
 * exact, and complete once the answer is there, because the service ends its transaction before. pg_stat_database and
 * pg_statio would not do: they count every backend together, and a backend tells them of its work up to a second later.
 * EXPLAIN would not either: it is not the statement that was run. Not counted: looking names up while a statement is parsed.
 */
export class BlockCounter {
	readonly #admin: pg.Client;

	private constructor(admin: pg.Client) {
		this.#admin = admin;
	}

	/** @param url the superuser's, of a server with the settings COUNTING */
	static async open(closer: Closer, url: string): Promise<BlockCounter> {
		const admin = new pg.Client({ connectionString: url });
		await admin.connect();
		closer.add(admin, (client) => client.end());
		await admin.query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
		return new BlockCounter(admin);
	}

	/** Nothing else may go on meanwhile, but what writes: that goes to `recording`. */
	async of<T>(call: () => Promise<T>): Promise<{ answer: T; blocks: Blocks }> {
		await this.#admin.query("SELECT pg_stat_statements_reset()");
		const answer = await call();
		const { rows } = await this.#admin.query<{ reading: string; recording: string }>(
			`SELECT coalesce(sum(blocks) FILTER (WHERE role = 'audit_reader'), 0) AS reading,
			        coalesce(sum(blocks) FILTER (WHERE role <> 'audit_reader'), 0) AS recording
			 FROM (SELECT r.rolname AS role, s.shared_blks_hit + s.shared_blks_read AS blocks
			       FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
			       JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
			       WHERE r.rolname LIKE 'audit\\_%') statements`,
		);
		return { answer, blocks: { reading: Number(rows[0]?.reading), recording: Number(rows[0]?.recording) } };
	}
}
