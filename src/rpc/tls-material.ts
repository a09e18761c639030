import { constants, createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContextOptions } from "node:tls";

/** What the ports encrypt with, and whom they believe. */
export interface TlsMaterial {
	readonly context: SecureContextOptions;
	/** Whether clients are asked for a certificate. */
	readonly asksClients: boolean;
	/** Until when the service's own certificate is good, in milliseconds since 1970. */
	readonly validTo: number;
}

/**
 * @param texts certificate with its chain, key, and the authorities of clients if any are believed: PEM
 * @throws Error saying which of them is of no use
 */
export function readTlsMaterial(texts: readonly string[]): TlsMaterial {
	const [cert = "", key = "", ca] = texts;
	const [own] = certificatesIn(cert, "TLS_CERT_FILE");
	if (!own.checkPrivateKey(privateKeyIn(key))) {
		throw new Error("TLS_KEY_FILE is not the key of the first certificate in TLS_CERT_FILE");
	}
	if (ca !== undefined) certificatesIn(ca, "TLS_CLIENT_CA_FILE");
	const context: SecureContextOptions = {
		cert,
		key,
		minVersion: "TLSv1.2",
		// Who a client is, is asked anew at every handshake: nothing of it is in tickets. And no handshakes within a connection.
		secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (ca === undefined ? 0 : constants.SSL_OP_NO_TICKET),
		...(ca !== undefined && { ca }),
	};
	try {
		createSecureContext(context);
	} catch (cause) {
		throw new Error("TLS_CERT_FILE and TLS_KEY_FILE cannot be used: OpenSSL refuses them", { cause });
	}
	return { context, asksClients: ca !== undefined, validTo: own.validToDate.getTime() };
}

function certificatesIn(text: string, name: string): [X509Certificate, ...X509Certificate[]] {
	const blocks = text.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? [];
	try {
		const [first, ...others] = blocks.map((block) => new X509Certificate(block));
		if (first) return [first, ...others];
	} catch {
		// Told below.
	}
	throw new Error(`${name} must hold certificates (PEM)`);
}

function privateKeyIn(text: string): KeyObject {
	try {
		return createPrivateKey(text);
	} catch {
		throw new Error("TLS_KEY_FILE must hold a private key (PEM) that is not encrypted");
	}
}
