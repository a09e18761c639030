import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";

/** Where NATS is, whom to believe that it is, and who we are there. Files are read anew at every connection. */
export interface NatsAccess {
	/** One server or several, separated by commas, `nats://` or `tls://`; user and password, or a token, in the first. */
	readonly url: string;
	/** A `.creds` file (JWT and NKey), or a file with the seed of an NKey alone. Instead of a user in the URL. */
	readonly credsFile?: string | undefined;
	/** Certificates (PEM) of the authorities that are believed instead of the well-known ones. Given: TLS or nothing. */
	readonly caFile?: string | undefined;
	/** Our own certificate and its key (PEM), for servers that ask for one. Given: TLS or nothing. */
	readonly certFile?: string | undefined;
	readonly keyFile?: string | undefined;
}

/** What a NATS URL says. */
export interface NatsPlace {
	/** Each `host:port`. */
	readonly servers: readonly string[];
	/** The hosts alone, as certificates name them. */
	readonly hosts: readonly string[];
	readonly tls: boolean;
	readonly login: { readonly user: string; readonly pass: string } | { readonly token: string } | undefined;
}

/** @throws Error saying what a NATS URL must be, without repeating it: a password may stand in it */
export function readNatsUrl(text: string): NatsPlace {
	const urls = text.split(",").map((part) => part.trim());
	if (!urls.every((part) => /^(nats|tls):\/\/./.test(part) && URL.canParse(part))) {
		throw new Error("must look like nats://localhost:4222 or tls://localhost:4222");
	}
	const places = urls.map((part) => new URL(part));
	const [user, pass] = [places[0]?.username ?? "", places[0]?.password ?? ""].map(decoded) as [string, string];
	return {
		servers: places.map(({ host }) => host),
		hosts: places.map(({ hostname }) => hostname.replace(/^\[(.*)\]$/, "$1")),
		// One of them in plain text would be the one an attacker lets us reach.
		tls: places.some(({ protocol }) => protocol === "tls:"),
		login: pass ? { user, pass } : user ? { token: user } : undefined,
	};
}

function decoded(part: string): string {
	try {
		return decodeURIComponent(part);
	} catch {
		throw new Error("user and password must be percent-encoded: a % is written %25");
	}
}

/** What does not go together, by the name of its setting; nothing if all is well. */
export function contradictionsIn({ url, credsFile, certFile, keyFile }: NatsAccess): [setting: string, what: string][] {
	const wrong: [string, string][] = [];
	if (credsFile && readNatsUrl(url).login)
		wrong.push(["NATS_CREDS_FILE", "NATS_URL names a user, too: give one of them"]);
	if (certFile && !keyFile) wrong.push(["NATS_CERT_FILE", "needs NATS_KEY_FILE"]);
	if (keyFile && !certFile) wrong.push(["NATS_KEY_FILE", "needs NATS_CERT_FILE"]);
	if (certFile && keyFile && !belongTogether(certFile, keyFile)) {
		wrong.push(["NATS_KEY_FILE", "is not the key of the certificate in NATS_CERT_FILE"]);
	}
	return wrong;
}

function belongTogether(certFile: string, keyFile: string): boolean {
	return new X509Certificate(readFileSync(certFile)).checkPrivateKey(createPrivateKey(readFileSync(keyFile)));
}

/** @throws Error unless the file holds certificates. @returns its path, as all of these */
export function parseCertificateFile(path: string): string {
	for (const pem of contentOf(path).match(/-----BEGIN [^]*?-----END [^-]*-----/g) ?? [""]) {
		try {
			new X509Certificate(pem);
		} catch {
			// OpenSSL would pass over it, and whom it was to vouch for would be refused later, or nobody.
			throw new Error("must name a file of certificates (PEM)");
		}
	}
	return path;
}

/** @throws Error unless the file holds a private key that needs no passphrase */
export function parseKeyFile(path: string): string {
	try {
		createPrivateKey(contentOf(path));
	} catch (error) {
		if (error instanceof Unreadable) throw error;
		throw new Error("must name a file with a private key (PEM) that is not encrypted");
	}
	return path;
}

/** @throws Error unless the file holds credentials of a NATS user */
export function parseCredsFile(path: string): string {
	const text = contentOf(path);
	if (seedIn(text) === undefined && !CREDS.test(text)) {
		throw new Error("must name a .creds file, or one with the seed of a user's NKey (SU…) alone");
	}
	return path;
}

const SEED = /^\s*(SU[A-Z2-7]{56})\s*$/;
const CREDS = /^-{3,}BEGIN NATS USER JWT-{3,}\s[^]*^-{3,}BEGIN USER NKEY SEED-{3,}\s+SU[A-Z2-7]{56}\s/m;

/** The seed of an NKey, if that is all there is. */
export function seedIn(text: string): string | undefined {
	return SEED.exec(text)?.[1];
}

class Unreadable extends Error {}

function contentOf(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch (error) {
		throw new Unreadable(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
	}
}
