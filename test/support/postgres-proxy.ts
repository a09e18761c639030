import { connect, createServer, type Socket } from "node:net";

/** What the proxy does with the next COMMIT that passes. Each is done once. */
export type Fault =
	/** The server commits; the reply never reaches the client. */
	| "lose the reply"
	/** The server commits; the reply is kept back, and the client waits for it. */
	| "hold the reply"
	/** The connection breaks before the server has seen it. */
	| "break before"
	/** The server is told to roll back instead, as when the transaction had failed: it answers ROLLBACK. */
	| "roll back instead";

export interface PostgresProxy {
	/** The database's URL, through the proxy. */
	readonly url: string;
	/** Applies the fault to the next COMMIT. */
	next(fault: Fault): void;
	/** How many COMMITs the fault has been applied to. */
	readonly applied: number;
	/** How many replies to COMMIT were kept back: so many transactions are committed whose writer does not know. */
	readonly held: number;
	/** How many COMMITs have passed. */
	readonly commits: number;
	/** Breaks every connection, without a word. */
	cut(): void;
	close(): Promise<void>;
}

const COMMIT = simpleQuery("COMMIT");
const ROLLBACK = simpleQuery("ROLLBACK");

/** A TCP proxy in front of PostgreSQL that can spoil a COMMIT: a fault of the network, not of our code. */
export async function startPostgresProxy(databaseUrl: string): Promise<PostgresProxy> {
	const target = new URL(databaseUrl);
	const sockets = new Set<Socket>();
	let pending: Fault | undefined;
	let applied = 0;
	let held = 0;
	let commits = 0;

	const server = createServer((client) => {
		const upstream = connect(Number(target.port), target.hostname);
		for (const socket of [client, upstream]) {
			sockets.add(socket);
			socket.on("error", () => {});
			socket.on("close", () => {
				sockets.delete(socket);
				client.destroy();
				upstream.destroy();
			});
		}
		let spoilt: Fault | undefined;
		client.on("data", (chunk) => {
			if (chunk.includes(COMMIT)) commits += 1;
			const at = pending && chunk.indexOf(COMMIT);
			if (at === undefined || at < 0) return void upstream.write(chunk);
			const fault = pending;
			pending = undefined;
			applied += 1;
			if (fault === "break before") return void client.destroy();
			spoilt = fault;
			const instead = fault === "roll back instead" ? ROLLBACK : COMMIT;
			upstream.write(Buffer.concat([chunk.subarray(0, at), instead, chunk.subarray(at + COMMIT.length)]));
		});
		upstream.on("data", (chunk) => {
			// The server has answered, so the commit is done.
			if (spoilt === "lose the reply") client.destroy();
			else if (spoilt === "hold the reply") held += 1;
			else client.write(chunk);
		});
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const url = new URL(databaseUrl);
	url.port = String((server.address() as { port: number }).port);
	return {
		url: url.href,
		next: (fault) => {
			pending = fault;
		},
		get applied() {
			return applied;
		},
		get held() {
			return held;
		},
		get commits() {
			return commits;
		},
		cut: () => {
			for (const socket of sockets) socket.destroy();
		},
		close: async () => {
			for (const socket of sockets) socket.destroy();
			await new Promise((resolve) => server.close(resolve));
		},
	};
}

/** The frontend message of PostgreSQL's protocol for a query without parameters. */
function simpleQuery(sql: string): Buffer {
	const text = Buffer.from(`${sql}\0`);
	const head = Buffer.alloc(5);
	head.write("Q");
	head.writeInt32BE(text.length + 4, 1);
	return Buffer.concat([head, text]);
}
