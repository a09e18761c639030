import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logger.ts";
import type { BackgroundProcess } from "./background-process.ts";

const RETRY_MS = 500;

/** A server that is started again when it goes. */
export interface Supervised {
	/** Ends it, for good. */
	stop(): Promise<void>;
}

/**
 * Keeps a server running: when it ends without having been told to, it is started again on the port its clients know.
 *
 * @param start starts it on that port if the port is free
 */
export function supervise<S extends BackgroundProcess & { readonly port: number }>(
	name: string,
	first: S,
	start: (port: number) => Promise<S>,
	logger: Logger,
): Supervised {
	const { port } = first;
	let server: S = first;
	let stopping = false;
	const startAgain = async (): Promise<S> => {
		for (;;) {
			try {
				const again = await start(port);
				if (again.port === port) return again;
				await again.stop();
			} catch (error) {
				logger.error({ server: name, err: error }, "a server could not be started again");
			}
			if (stopping) return server;
			await sleep(RETRY_MS);
		}
	};
	const running = (async () => {
		for (;;) {
			await server.exited;
			if (stopping) return;
			logger.warn({ server: name }, "a server ended by itself and is started again");
			server = await startAgain();
			// Told to stop meanwhile: only the old one was reached.
			if (stopping) await server.stop();
		}
	})();
	return {
		async stop() {
			stopping = true;
			await server.stop();
			await running;
		},
	};
}
