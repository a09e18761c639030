// The library below registers its algorithms by it.
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
	BasicConstraintsExtension,
	ExtendedKeyUsage,
	ExtendedKeyUsageExtension,
	KeyUsageFlags,
	KeyUsagesExtension,
	PemConverter,
	SubjectAlternativeNameExtension,
	type X509Certificate,
	X509CertificateGenerator,
} from "@peculiar/x509";

/** A certificate and its private key, as PEM. */
export interface Issued {
	readonly cert: string;
	readonly key: string;
}

export interface CertificateRequest {
	/** The common name. Default "test". */
	readonly name?: string;
	readonly dnsNames?: readonly string[];
	readonly ips?: readonly string[];
	readonly uris?: readonly string[];
	/** For a client, instead of a server. */
	readonly client?: boolean;
	/** For how many days from now it is good. Negative: it ended so many days ago. Default 1. */
	readonly days?: number;
}

/** An authority of the calling test's own. */
export interface Ca {
	/** Its certificate, as PEM. */
	readonly pem: string;
	issue(request?: CertificateRequest): Promise<Issued>;
}

const DAY_MS = 86_400_000;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

export async function makeCa(name = "test authority"): Promise<Ca> {
	const keys = await makeKeys();
	const certificate = await X509CertificateGenerator.createSelfSigned(
		{
			name: `CN=${name}`,
			keys,
			signingAlgorithm: ALGORITHM,
			notBefore: new Date(Date.now() - 30 * DAY_MS),
			notAfter: new Date(Date.now() + 30 * DAY_MS),
			extensions: [
				new BasicConstraintsExtension(true, undefined, true),
				new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
			],
		},
		webcrypto as Crypto,
	);
	return { pem: certificate.toString("pem"), issue: (request = {}) => issue(certificate, keys.privateKey, request) };
}

async function issue(
	authority: X509Certificate,
	authorityKey: CryptoKey,
	{ name = "test", dnsNames = [], ips = [], uris = [], client = false, days = 1 }: CertificateRequest,
): Promise<Issued> {
	const keys = await makeKeys();
	const names = [
		...dnsNames.map((value) => ({ type: "dns" as const, value })),
		...ips.map((value) => ({ type: "ip" as const, value })),
		...uris.map((value) => ({ type: "url" as const, value })),
	];
	const certificate = await X509CertificateGenerator.create(
		{
			issuer: authority.subject,
			subject: `CN=${name}`,
			publicKey: keys.publicKey,
			signingKey: authorityKey,
			signingAlgorithm: ALGORITHM,
			notBefore: new Date(Date.now() + Math.min(0, days) * DAY_MS - DAY_MS),
			notAfter: new Date(Date.now() + days * DAY_MS),
			extensions: [
				new BasicConstraintsExtension(false, undefined, true),
				new ExtendedKeyUsageExtension([client ? ExtendedKeyUsage.clientAuth : ExtendedKeyUsage.serverAuth]),
				...(names.length > 0 ? [new SubjectAlternativeNameExtension(names)] : []),
			],
		},
		webcrypto as Crypto,
	);
	return { cert: certificate.toString("pem"), key: await pemOf(keys.privateKey) };
}

function makeKeys(): Promise<CryptoKeyPair> {
	return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
}

async function pemOf(key: CryptoKey): Promise<string> {
	return PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key as webcrypto.CryptoKey), "PRIVATE KEY");
}
