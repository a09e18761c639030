import { describe, expect, test } from "vitest";
import { ClientAddresses } from "../../../src/rpc/client-address.ts";
import { parseNetworks } from "../../../src/rpc/network-settings.ts";

const addresses = new ClientAddresses(parseNetworks("127.0.0.1, 10.0.0.0/8, 2001:db8:ffff::/48"));
const PROXY = "127.0.0.1";
const headersOf = (forwardedFor?: string, forwarded?: string) => ({
	...(forwardedFor !== undefined && { "x-forwarded-for": forwardedFor }),
	...(forwarded !== undefined && { forwarded }),
});

test.each([
	["192.0.2.1", "203.0.113.5", undefined, "192.0.2.1"],
	["192.0.2.1", "203.0.113.5", "for=203.0.113.5", "192.0.2.1"],
	["2001:db8::1", "203.0.113.5", undefined, "2001:db8::1"],
	["fe80::1%eth0", undefined, undefined, "fe80::1"],
	[undefined, "203.0.113.5", undefined, ""],
])("a peer that is no trusted proxy (%s) is the client, whatever it says (%s, %s)", (peer, xff, forwarded, client) => {
	expect(addresses.of(peer, headersOf(xff, forwarded))).toBe(client);
});

test("without trusted proxies nobody is believed", () => {
	expect(new ClientAddresses([]).of(PROXY, headersOf("203.0.113.5", "for=203.0.113.5"))).toBe(PROXY);
});

describe("X-Forwarded-For of a trusted proxy", () => {
	test.each([
		["203.0.113.5", "203.0.113.5"],
		["203.0.113.5:4711", "203.0.113.5"],
		["2001:DB8:0::5", "2001:db8::5"],
		["[2001:db8::5]", "2001:db8::5"],
		["[2001:db8::5]:443", "2001:db8::5"],
		["::ffff:203.0.113.5", "203.0.113.5"],
		["::ffff:cb00:7105", "203.0.113.5"],
		// What the client wrote itself stands on the left.
		["6.6.6.6, 203.0.113.5", "203.0.113.5"],
		["10.9.9.9,6.6.6.6 ,  203.0.113.5", "203.0.113.5"],
		["not an address, 203.0.113.5", "203.0.113.5"],
		// Two and three proxies.
		["203.0.113.5, 10.0.0.3", "203.0.113.5"],
		["6.6.6.6, 203.0.113.5, 10.0.0.3, [2001:db8:ffff::7]:80", "203.0.113.5"],
		// A client among the proxies' addresses.
		["10.0.0.4, 10.0.0.3", "10.0.0.4"],
	])("%s: from %s", (header, client) => {
		expect(addresses.of(PROXY, headersOf(header))).toBe(client);
		expect(addresses.of("::ffff:127.0.0.1", headersOf(header))).toBe(client);
	});

	test.each([
		["", PROXY],
		[",", PROXY],
		["203.0.113.5,", PROXY],
		["unknown", PROXY],
		["203.0.113.5:port", PROXY],
		["203.0.113", PROXY],
		["203.0.113.005", PROXY],
		["[2001:db8::5", PROXY],
		["2001:db8::5]", PROXY],
		["for=203.0.113.5", PROXY],
		["203.0.113.5, garbage, 10.0.0.3", "10.0.0.3"],
	])("%j is known as far as %s", (header, client) => {
		expect(addresses.of(PROXY, headersOf(header))).toBe(client);
	});
});

describe("Forwarded of a trusted proxy", () => {
	test.each([
		["for=203.0.113.5", "203.0.113.5"],
		["For=203.0.113.5;Proto=https;By=10.0.0.1", "203.0.113.5"],
		['for="203.0.113.5:4711"', "203.0.113.5"],
		['for="[2001:db8::5]:4711"', "2001:db8::5"],
		['for="[2001:db8::5]"; proto=https', "2001:db8::5"],
		['for="203.\\0.113.5"', "203.0.113.5"],
		['for=6.6.6.6, for=203.0.113.5;host="a,b;for=6.6.6.6"', "203.0.113.5"],
		['for=203.0.113.5, for="[2001:db8:ffff::7]", for=10.0.0.3', "203.0.113.5"],
		["garbage, for=203.0.113.5", "203.0.113.5"],
	])("%s: from %s", (header, client) => {
		expect(addresses.of(PROXY, headersOf(undefined, header))).toBe(client);
	});

	test.each([
		["", PROXY],
		["203.0.113.5", PROXY],
		["for=unknown", PROXY],
		["for=_hidden", PROXY],
		["for=2001:db8::5", PROXY],
		["proto=https", PROXY],
		["for=203.0.113.5;for=6.6.6.6", PROXY],
		["for=203.0.113.5;", PROXY],
		["for = 203.0.113.5", PROXY],
		// Quotes of the client's that would take in what the proxy adds.
		['for="6.6.6.6, for=203.0.113.5', PROXY],
		['for=6.6.6.6;x=", for="[2001:db8::5]"', PROXY],
		["for=203.0.113.5, for=unknown, for=10.0.0.3", "10.0.0.3"],
	])("%j is known as far as %s", (header, client) => {
		expect(addresses.of(PROXY, headersOf(undefined, header))).toBe(client);
	});
});

test("both headers are believed where they agree: one of them may be the client's own", () => {
	expect(addresses.of(PROXY, headersOf("203.0.113.5", "for=203.0.113.5"))).toBe("203.0.113.5");
	expect(addresses.of(PROXY, headersOf("203.0.113.5", "for=6.6.6.6"))).toBe(PROXY);
	expect(addresses.of(PROXY, headersOf("203.0.113.5", "for=unknown"))).toBe(PROXY);
});

test.each([["10.0.0.0/33"], ["10.0.0"], ["2001:db8::/129"], ["fe80::1%eth0"], ["proxy.example"], ["10.0.0.1,"], ["*"]])(
	"%s is no proxy",
	(text) => {
		expect(() => parseNetworks(text)).toThrow(/^must be addresses and CIDRs/);
	},
);
