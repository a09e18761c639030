import { accessSync, constants } from "node:fs";

/** Paths of files (PEM, JSON) that are read again while the service runs. */
export interface TlsSettings {
	readonly certFile: string;
	readonly keyFile: string;
	/** The authorities whose clients' certificates are believed, and who is who; undefined: none is asked for. */
	readonly clients: { readonly caFile: string; readonly identitiesFile: string } | undefined;
}

/** The settings of TLS, part of the one table of them all. */
export const TLS_SETTINGS = {
	TLS_CERT_FILE: {
		doc: "The service's certificate (PEM, followed by the rest of its chain), with TLS_KEY_FILE: both ports speak TLS 1.2 or 1.3 and nothing else. Read again every 10 s and at SIGHUP, as the three below.",
		optional: true,
		parse: parseFile,
	},
	TLS_KEY_FILE: { doc: "The key of that certificate (PEM).", optional: true, parse: parseFile },
	TLS_CLIENT_CA_FILE: {
		doc: "The authorities (PEM) whose certificates clients may show instead of a key, with AUDIT_MTLS_IDENTITIES_FILE. Without it none is asked for.",
		optional: true,
		parse: parseFile,
	},
	AUDIT_MTLS_IDENTITIES_FILE: {
		doc: "Who is who, by a subject alternative name of the certificate: a JSON list of `{san, name, roles, tenants, masked_units}`.",
		optional: true,
		parse: parseFile,
	},
} as const;

type Read = <T>(name: keyof typeof TLS_SETTINGS) => T | undefined;

/**
 * What the settings say together.
 *
 * @param problems what is wrong with them so far; what does not go together is added
 */
export function readTlsSettings(read: Read, problems: string[]): TlsSettings | undefined {
	const before = problems.length;
	const [certFile, keyFile] = [read<string>("TLS_CERT_FILE"), read<string>("TLS_KEY_FILE")];
	const [caFile, identitiesFile] = [read<string>("TLS_CLIENT_CA_FILE"), read<string>("AUDIT_MTLS_IDENTITIES_FILE")];
	if (problems.length > before) return undefined;
	const needs = (name: string, other: string) => problems.push(`${name}: needs ${other}`);
	if (certFile && !keyFile) needs("TLS_CERT_FILE", "TLS_KEY_FILE");
	if (keyFile && !certFile) needs("TLS_KEY_FILE", "TLS_CERT_FILE");
	if (caFile && !identitiesFile) needs("TLS_CLIENT_CA_FILE", "AUDIT_MTLS_IDENTITIES_FILE");
	if (identitiesFile && !caFile) needs("AUDIT_MTLS_IDENTITIES_FILE", "TLS_CLIENT_CA_FILE");
	if (caFile && !certFile) needs("TLS_CLIENT_CA_FILE", "TLS_CERT_FILE");
	if (!certFile || !keyFile) return undefined;
	return { certFile, keyFile, clients: caFile && identitiesFile ? { caFile, identitiesFile } : undefined };
}

/** What is in it is looked at by whoever uses it. @returns its path */
function parseFile(path: string): string {
	try {
		accessSync(path, constants.R_OK);
	} catch (error) {
		throw new Error(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
	}
	return path;
}
