import { processName, processStatus } from "./process-info.ts";

const INTERVAL_MS = 200;

/**
 * Makes this process stop when the `make` that started it is told to. A terminal's Ctrl-C reaches both, and make passes
 * SIGTERM on; but a SIGINT sent to make alone it keeps to itself: it sets SIGINT back to its default, and waits for us to
 * end. That is all there is to see of it. A make that was killed is seen by our having another parent.
 */
export function watchMake(): { close(): void } {
	const make = process.ppid;
	if (!/^g?make$/.test(processName(make))) return { close() {} };
	const caughtBefore = catchesInterrupt(make);
	let noticed = false;
	const timer = setInterval(() => {
		const interrupted = caughtBefore && !catchesInterrupt(make);
		if (process.ppid === make && !interrupted) return;
		// Not at once: a signal that was sent to us too may be under way, and a second one means "do not wait".
		if (noticed) process.kill(process.pid, interrupted ? "SIGINT" : "SIGTERM");
		noticed = true;
	}, INTERVAL_MS);
	timer.unref();
	const close = () => clearInterval(timer);
	process.once("SIGINT", close).once("SIGTERM", close);
	return { close };
}

/** Whether a process has a handler for SIGINT: the second bit of its mask of caught signals (proc(5)). */
function catchesInterrupt(pid: number): boolean {
	const mask = /^SigCgt:\s+([0-9a-f]+)$/m.exec(processStatus(pid))?.[1];
	return mask !== undefined && (BigInt(`0x${mask}`) & 2n) !== 0n;
}
