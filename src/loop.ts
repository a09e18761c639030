import type { Logger } from "./logger.ts";

/** A job that runs in the background until closed. */
export interface Loop {
	/** Runs the job soon; nudges while it runs are one more run. */
	nudge(): void;
	/** Waits for the run in progress and starts no other. */
	close(): Promise<void>;
}

/**
 * Runs `job` now and then every `intervalMs`, never twice at once. A job that throws is logged and runs again with
 * the next interval.
 */
export function startLoop(name: string, intervalMs: number, logger: Logger, job: () => Promise<void>): Loop {
	let closed = false;
	let wake: () => void = () => {};
	let nudged = false;
	const sleep = () =>
		new Promise<void>((resolve) => {
			const timer = setTimeout(resolve, intervalMs);
			wake = () => {
				clearTimeout(timer);
				resolve();
			};
			if (nudged || closed) wake();
		});
	const running = (async () => {
		while (!closed) {
			nudged = false;
			await job().catch((error: unknown) => logger.error({ loop: name, err: error }, "background job failed"));
			await sleep();
		}
	})();
	return {
		nudge() {
			nudged = true;
			wake();
		},
		async close() {
			closed = true;
			wake();
			await running;
		},
	};
}
