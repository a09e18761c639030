import { isIPv4, isIPv6 } from "node:net";

/** Addresses that begin with the same `prefix` bits. */
export interface Network {
	readonly address: string;
	readonly prefix: number;
	readonly family: "ipv4" | "ipv6";
}

/** Reads addresses and CIDRs, separated by commas. @throws Error whose message says what is allowed */
export function parseNetworks(text: string): readonly Network[] {
	return splitList(text).map((part) => {
		const [, address = "", bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(part) ?? [];
		const isV6 = isIPv6(address) && !address.includes("%");
		const most = isV6 ? 128 : 32;
		const prefix = Number(bits ?? most);
		if ((!isIPv4(address) && !isV6) || prefix > most) {
			throw new Error("must be addresses and CIDRs such as 10.0.0.0/8, separated by commas");
		}
		return { address, prefix, family: isV6 ? "ipv6" : "ipv4" };
	});
}

/** Reads origins as browsers send them, separated by commas. @throws Error whose message says what is allowed */
export function parseOrigins(text: string): readonly string[] {
	return splitList(text).map((origin) => {
		const isExact = /^https?:\/\/[^*]+$/.test(origin) && URL.canParse(origin) && new URL(origin).origin === origin;
		if (!isExact) {
			throw new Error("must be origins such as https://audit.example.com, separated by commas: no path, no wildcard");
		}
		return origin;
	});
}

function splitList(text: string): string[] {
	return text.split(",").map((part) => part.trim());
}
