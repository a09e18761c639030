import { isIPv4 } from "node:net";

/** Whether what is sent to this host, as a URL or a listener names it, stays on this machine. */
export function isLoopback(host: string): boolean {
	const name = host.replace(/^\[(.*)\]$/, "$1");
	return name === "localhost" || name === "::1" || (isIPv4(name) && name.startsWith("127."));
}
