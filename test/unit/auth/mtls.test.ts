import { X509Certificate } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { CertificateVerifier, subjectNames } from "../../../src/auth/mtls.ts";
import { parseIdentities } from "../../../src/auth/mtls-identities.ts";
import { deriveKeys } from "../../../src/auth/secret.ts";
import { type Ca, type CertificateRequest, makeCa } from "../../support/certificates.ts";

const keys = deriveKeys("a root secret of the tests, long enough");
const BILLING = "URI:spiffe://example.com/billing";
const entry = { san: BILLING, name: "billing", roles: ["writer"], tenants: ["acme"] };
const later = Date.now() + 60_000;

let ca: Ca;
beforeAll(async () => {
	ca = await makeCa();
});

/** The names of a real certificate, as Node tells them. */
async function namesOf(request: CertificateRequest): Promise<string[]> {
	return subjectNames(new X509Certificate((await ca.issue(request)).cert).subjectAltName);
}

function verifierOf(...entries: object[]): CertificateVerifier {
	const identities = parseIdentities(JSON.stringify(entries));
	return new CertificateVerifier(() => identities, keys);
}

describe("the names of a certificate", () => {
	test("are what stands in it, each for itself", async () => {
		const names = await namesOf({
			uris: ["spiffe://example.com/billing"],
			dnsNames: ["Billing.Example.com", "*.example.com"],
			ips: ["10.0.0.1"],
		});
		expect(new Set(names)).toEqual(
			new Set([BILLING, "DNS:billing.example.com", "DNS:*.example.com", "IP Address:10.0.0.1"]),
		);
		expect(await namesOf({})).toEqual([]);
	});

	test.each([
		["that holds another", "http://x, URI:spiffe://example.com/billing"],
		["that holds another, quoted", 'http://x", URI:spiffe://example.com/billing, DNS:"y'],
		["that holds another, escaped", "http://x\\, URI:spiffe://example.com/billing"],
		["that goes on", "spiffe://example.com/billing/x"],
		["that goes on after a NUL", "spiffe://example.com/billing\0.evil.example"],
		["that ends with it", "http://evil.example/spiffe://example.com/billing"],
		["in other letters", "spiffe://example.com/Billing"],
	])("a name %s is none of another's", async (_, uri) => {
		const names = await namesOf({ uris: [uri] });
		expect(names).not.toContain(BILLING);
		expect(verifierOf(entry).verify({ names, validTo: later })).toBeUndefined();
	});

	test.each([undefined, "", "DNS", "DNS:a,DNS:b", 'URI:"a', 'URI:"a"b', "DNS:a, ", ", DNS:a", "URI:a, x"])(
		"what is not understood is no name: %j",
		(text) => {
			const names = subjectNames(text);
			expect(names.length).toBeLessThanOrEqual(text === "DNS:a, " ? 1 : 0);
		},
	);
});

describe("a certificate", () => {
	test("is whose its name says, under an id that does not tell the name", () => {
		const principal = verifierOf({ ...entry, masked_units: ["actor"] }).verify({
			names: ["DNS:a", BILLING],
			validTo: later,
		});
		expect(principal).toEqual({
			kind: "mtls",
			id: expect.stringMatching(/^mtls_[0-9a-f]{12}$/) as string,
			keyId: principal?.id,
			name: "billing",
			roles: new Set(["writer"]),
			tenants: new Set(["acme"]),
			maskedUnits: new Set(["actor"]),
			expiresAt: later,
		});
	});

	test("that has expired since the connection was opened is no good", () => {
		const certificate = { names: [BILLING], validTo: Date.now() - 1 };
		expect(() => verifierOf(entry).verify(certificate)).toThrow(/a valid key or token is required/);
	});

	test("with the names of two is nobody's", () => {
		const both = verifierOf(entry, { ...entry, san: "DNS:b.example", roles: ["operator"] });
		expect(() => both.verify({ names: [BILLING, "DNS:b.example"], validTo: later })).toThrow(
			/a valid key or token is required/,
		);
	});

	test("of nobody proves nothing", () => {
		expect(verifierOf(entry).verify({ names: ["DNS:a"], validTo: later })).toBeUndefined();
		expect(verifierOf().verify({ names: [BILLING], validTo: later })).toBeUndefined();
	});
});

describe("the file of identities", () => {
	test("may hold hosts, all tenants, several roles", () => {
		const all = parseIdentities(
			JSON.stringify([{ san: "DNS:Ops.Example.com", name: "ops", roles: ["operator", "reader"], tenants: "*" }]),
		);
		expect(all.get("DNS:ops.example.com")).toEqual({
			name: "ops",
			roles: new Set(["operator", "reader"]),
			tenants: "all",
			maskedUnits: new Set(),
		});
	});

	test("is refused whole, and everything wrong with it is named", () => {
		const wrong = [
			{ ...entry, san: "billing" },
			{ ...entry, san: "DNS:*.example.com" },
			{ ...entry, name: "" },
			{ ...entry, roles: [] },
			{ ...entry, roles: ["writer", "root"] },
			{ ...entry, tenants: ["*"] },
			{ ...entry, masked_units: ["facts"] },
			{ ...entry, role: "writer" },
			{},
			entry,
			entry,
		];
		const problems = [
			"[0].san: must be",
			"[1].san: must be",
			"[2].name: must be",
			"[3].roles: must be",
			"[4].roles: must be",
			"[5].tenants: must be",
			"[6].masked_units: must be",
			'[7]."role": is none of',
			"[8].san: must be",
			"[8].name: must be",
			"[8].roles: must be",
			"[8].tenants: must be",
			"[10].san: is another one's, too",
		];
		const told = messageOf(() => parseIdentities(JSON.stringify(wrong)));
		expect(
			told
				.split("\n    ")
				.slice(1)
				.map((line) => problems.find((problem) => line.startsWith(problem))),
		).toEqual(problems);
	});

	test.each(["", "{}", "null", "[1]", "[[]]", "[null]", "["])("is refused when it is %j", (text) => {
		expect(() => parseIdentities(text)).toThrow(/AUDIT_MTLS_IDENTITIES_FILE/);
	});
});

function messageOf(run: () => unknown): string {
	try {
		run();
	} catch (error) {
		return (error as Error).message;
	}
	return "";
}
