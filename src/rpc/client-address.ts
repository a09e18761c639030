import type { IncomingHttpHeaders } from "node:http";
import { BlockList, isIP, SocketAddress } from "node:net";
import type { Network } from "./network-settings.ts";

/**
 * Tells where a request comes from. Headers are believed as far as proxies that the operator named wrote them: each proxy
 * adds, on the right, the address it was called from. Read from there, the first address that is no such proxy's is the
 * client's; what stands left of it anybody may have written.
 */
export class ClientAddresses {
	readonly #trusted = new BlockList();
	readonly #trustsAny: boolean;

	constructor(trustedProxies: readonly Network[]) {
		this.#trustsAny = trustedProxies.length > 0;
		for (const { address, prefix, family } of trustedProxies) this.#trusted.addSubnet(address, prefix, family);
	}

	/**
	 * @param peer the connection's other end
	 * @returns the client's address, or the last one that is known for sure
	 */
	of(peer: string | undefined, headers: IncomingHttpHeaders): string {
		const nearest = canonical(peer ?? "");
		if (nearest === undefined) return "";
		if (!this.#trustsAny || !this.#isTrusted(nearest)) return nearest;
		const named = [readForwardedFor(headers["x-forwarded-for"]), readForwarded(headers.forwarded)]
			.filter((hops) => hops !== undefined)
			.map((hops) => this.#follow(nearest, hops));
		// A proxy writes one of them and may pass on the other as it came: what they do not agree on is not known.
		return named.length > 0 && named.every((address) => address === named[0]) ? (named[0] as string) : nearest;
	}

	/** @param hops nearest last; undefined where one names no address */
	#follow(nearest: string, hops: readonly (string | undefined)[]): string {
		let last = nearest;
		for (const hop of hops.toReversed()) {
			if (hop === undefined || !this.#isTrusted(last)) break;
			last = hop;
		}
		return last;
	}

	#isTrusted(address: string): boolean {
		return this.#trusted.check(address, address.includes(":") ? "ipv6" : "ipv4");
	}
}

type Header = string | readonly string[] | undefined;

function readForwardedFor(header: Header): (string | undefined)[] | undefined {
	if (header === undefined) return undefined;
	return [header].flat().join(",").split(",").map(readHop);
}

/** RFC 7239. */
function readForwarded(header: Header): (string | undefined)[] | undefined {
	if (header === undefined) return undefined;
	const text = [header].flat().join(",");
	// A quote that is not closed may have taken in what a proxy wrote after it.
	if (!/^(?:[^"]|"(?:[^"\\]|\\.)*")*$/.test(text)) return [undefined];
	const elements = text.match(/(?<=^|,)(?:[^",]|"(?:[^"\\]|\\.)*")*/g) ?? [];
	return elements.map((element) => {
		if (!ELEMENT.test(element)) return undefined;
		const fors = [...element.matchAll(PAIR)].filter(([, name]) => name?.toLowerCase() === "for");
		const value = fors.length === 1 ? (fors[0]?.[2] as string) : "";
		return readHop(value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, "$1") : value);
	});
}

const PAIR_SOURCE = String.raw`([!#$%&'*+.^\w\x60|~-]+)=([!#$%&'*+.^\w\x60|~-]+|"(?:[^"\\]|\\.)*")`;
const PAIR = new RegExp(PAIR_SOURCE, "g");
const ELEMENT = new RegExp(`^\\s*${PAIR_SOURCE}(?:\\s*;\\s*${PAIR_SOURCE})*\\s*$`);

/** An address, with or without a port; IPv6 in brackets if there is one. Neither `unknown` nor a made-up name is one. */
function readHop(text: string): string | undefined {
	const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/.exec(text.trim()) ?? [];
	return canonical(bracketed ?? plain ?? text.trim());
}

/** The one spelling of an address; an IPv4 address that IPv6 carries is itself. */
function canonical(text: string): string | undefined {
	const family = isIP(text);
	if (family === 0) return undefined;
	if (family === 4) return text;
	// Which of this machine's links an address is on is nothing that another one says.
	const { address } = new SocketAddress({ address: text.split("%", 1)[0] as string, family: "ipv6" });
	return address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/, "");
}
