import type pg from "pg";

let cursors = 0;

/** Reads a large result piece by piece, inside the transaction the client is in. */
export async function* readInPieces<T extends pg.QueryResultRow>(
	client: pg.ClientBase,
	sql: string,
): AsyncGenerator<T, undefined> {
	cursors += 1;
	const name = `pieces_${cursors}`;
	await client.query(`DECLARE ${name} NO SCROLL CURSOR FOR ${sql}`);
	for (;;) {
		const { rows } = await client.query<T>(`FETCH 100 FROM ${name}`);
		if (rows.length === 0) break;
		yield* rows;
	}
	await client.query(`CLOSE ${name}`);
	return undefined;
}
