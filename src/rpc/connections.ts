import { isIPv4, isIPv6, type Socket } from "node:net";
import type { Logger } from "../logger.ts";
import { Quota } from "./quota.ts";

export interface ConnectionsOptions {
	readonly connections: number;
	readonly connectionsPerAddress: number;
	readonly logger: Logger;
}

/**
 * Who may be connected, over all ports together: so many in all, and so many from one address. One too many is closed
 * without an answer, which costs nothing and tells every client to try elsewhere.
 */
export class Connections {
	readonly #quota: Quota;
	readonly #logger: Logger;
	#refused = 0;
	#tellAgainAt = 0;

	constructor({ connections, connectionsPerAddress, logger }: ConnectionsOptions) {
		this.#quota = new Quota(connections, connectionsPerAddress);
		this.#logger = logger;
	}

	/** Counts a new connection until it is closed, or closes it at once. @returns whether it may stay */
	admit(socket: Socket): boolean {
		const source = sourceOf(socket.remoteAddress);
		if (!this.#quota.take(source, 1)) {
			socket.destroy();
			this.#tellRefused();
			return false;
		}
		socket.once("close", () => this.#quota.giveBack(source, 1));
		return true;
	}

	/** Not a line for each: whoever floods the service would flood the log. */
	#tellRefused(): void {
		this.#refused += 1;
		if (performance.now() < this.#tellAgainAt) return;
		this.#logger.warn(
			{ refused: this.#refused },
			"connections refused: there are too many, in all or from one address",
		);
		this.#refused = 0;
		this.#tellAgainAt = performance.now() + TELL_MS;
	}
}

const TELL_MS = 10_000;

/** Where a peer is, as far as limits are concerned: an IPv4 address, or the /64 that one IPv6 host has to itself. */
export function sourceOf(address = ""): string {
	const mapped = address.replace(/^::ffff:(?=\d+\.)/i, "");
	if (isIPv4(mapped) || !isIPv6(address)) return mapped;
	const [before = "", after] = (address.split("%", 1)[0] as string).split("::");
	const groups = before === "" ? [] : before.split(":");
	const missing = after === undefined ? 0 : 8 - groups.length - (after === "" ? 0 : after.split(":").length);
	const whole = [...groups, ...Array<string>(missing).fill("0"), ...(after ? after.split(":") : [])];
	return `${whole.slice(0, 4).join(":")}::/64`;
}
