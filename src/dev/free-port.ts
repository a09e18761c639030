import { once } from "node:events";
import { createServer } from "node:net";

/** The wanted port if it can be had on the loopback address (or `host`), else a free one. 0 wants any. */
export async function freePort(wanted = 0, host = "127.0.0.1"): Promise<number> {
	return (await tryPort(wanted, host)) ?? (await tryPort(0, host)) ?? wanted;
}

/** The port, given away again, or undefined when somebody has it. Somebody else may take it before its user does. */
async function tryPort(port: number, host: string): Promise<number | undefined> {
	const server = createServer();
	try {
		server.listen({ port, host, exclusive: true });
		await once(server, "listening");
		return (server.address() as { port: number }).port;
	} catch {
		return undefined;
	} finally {
		await new Promise((resolve) => server.close(resolve));
	}
}
