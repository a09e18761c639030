import pg from "pg";
import { AuditError } from "../errors.ts";
import { asUnavailable, type Database } from "./db.ts";

/** The connection broke after COMMIT was sent: whether it took effect can only be found out. */
export class CommitUnknown extends Error {
	/** The server process that had the transaction. */
	readonly backendPid: number;

	constructor(backendPid: number, cause: unknown) {
		super("the reply to COMMIT was lost", { cause });
		this.backendPid = backendPid;
	}
}

/** The server answered, and nothing was stored. */
export class NotCommitted extends Error {}

/** Longer than any healthy flush; shorter than a caller's deadline of 15 seconds. */
const TRANSACTION_DEADLINE_MS = 10_000;

/**
 * Runs one transaction of the writer's. Resolves only when the server said COMMIT and no standby is missing. Throws
 * CommitUnknown when nobody knows whether it has committed. The connection is never used again after an error.
 */
export async function writeTransaction<T>(db: Database, run: (client: pg.PoolClient) => Promise<T>): Promise<T> {
	const client = await db.writer.connect();
	// A server that stops answering (frozen, or behind a dead link) would hold COPY for ever: pg has no timeout there.
	const deadline = setTimeout(() => breakConnection(client), TRANSACTION_DEADLINE_MS);
	let failed = true;
	try {
		const serverPid = await begin(client);
		const result = await run(client);
		await commit(client, serverPid);
		failed = false;
		return result;
	} finally {
		clearTimeout(deadline);
		client.release(failed);
	}
}

/**
 * Begins the transaction, and tells which server process has it. Asked for in the same message: what the connection was
 * told when it was opened is a number of the pooler's making where one stands in between.
 */
async function begin(client: pg.PoolClient): Promise<number> {
	const results: unknown = await client.query("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_backend_pid() AS pid");
	return (results as [unknown, pg.QueryResult<{ pid: number }>])[1].rows[0]?.pid ?? 0;
}

async function commit(client: pg.PoolClient, serverPid: number): Promise<void> {
	let unreplicated = false;
	const onNotice = (notice: { code?: string | undefined }) => {
		if (notice.code === "01000") unreplicated = true;
	};
	client.on("notice", onNotice);
	try {
		const result = await client.query("COMMIT").catch((error: unknown) => {
			throw isVerdict(error) ? error : new CommitUnknown(serverPid, error);
		});
		// COMMIT of a transaction that had failed does not throw: it answers ROLLBACK.
		if (result.command !== "COMMIT") throw new NotCommitted(`COMMIT was answered ${result.command}`);
		// PostgreSQL gave up waiting for its synchronous standby: the promise made to the caller would be too big.
		if (unreplicated) {
			throw new AuditError("unavailable", "the standby did not confirm the write; try again", {
				reason: "STANDBY_UNCONFIRMED",
				retryAfterMs: 1_000,
			});
		}
	} finally {
		client.off("notice", onNotice);
	}
	// At this point the batch is durable: a crash from here on costs the caller nothing but a retry, which finds it.
}

/** What those who wait for a write are told: whatever may help when tried again is `unavailable`. */
export function asRejection(error: unknown): unknown {
	if (error instanceof CommitUnknown) {
		const options = { reason: "OUTCOME_UNKNOWN", retryAfterMs: 1_000, cause: error };
		return new AuditError("unavailable", "the write may or may not have been stored; send the same id again", options);
	}
	if (error instanceof NotCommitted) {
		const options = { reason: "NOT_STORED", retryAfterMs: 1_000, cause: error };
		return new AuditError("unavailable", "the database did not commit the write; try again", options);
	}
	return asUnavailable(error);
}

/** Whether an error in answer to COMMIT says that it failed. A server told to stop (57) may have committed before. */
function isVerdict(error: unknown): boolean {
	return error instanceof pg.DatabaseError && !/^(57|08)/.test(error.code ?? "");
}

/** Not in @types/pg: the socket. */
interface ClientInternals {
	connection?: { stream?: { destroy(): void } };
}

/** Makes whatever waits on it fail at once. What the server was doing goes on until it notices. */
export function breakConnection(client: pg.PoolClient): void {
	(client as ClientInternals).connection?.stream?.destroy();
}
