import { connect, createServer, type Socket } from "node:net";

/** A line between a client and a server on the loopback address, which a test may cut or silence. */
export interface TcpProxy {
	readonly port: number;
	/** Breaks every connection and takes no new one: to the server, the client has crashed. */
	cut(): Promise<void>;
	/** Keeps the connections and carries nothing any more: nobody is told. */
	silence(): void;
	/** Carries new connections again. */
	restore(): void;
}

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
	const sockets = new Set<Socket>();
	let silent = false;
	const server = createServer((client) => {
		const upstream = connect(targetPort, "127.0.0.1");
		const wasSilent = () => silent;
		for (const [from, to] of [
			[client, upstream],
			[upstream, client],
		] as const) {
			sockets.add(from);
			from.on("data", (chunk) => void (wasSilent() || to.write(chunk)));
			from.on("error", () => {});
			from.on("close", () => {
				sockets.delete(from);
				to.destroy();
			});
		}
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	return {
		port: (server.address() as { port: number }).port,
		cut: async () => {
			for (const socket of sockets) socket.destroy();
			await new Promise((resolve) => server.close(resolve));
		},
		silence: () => {
			silent = true;
		},
		restore: () => {
			silent = false;
		},
	};
}
