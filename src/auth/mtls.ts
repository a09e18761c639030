import { identityId } from "./identity-id.ts";
import type { Identities } from "./mtls-identities.ts";
import type { Principal } from "./principal.ts";
import type { DerivedKeys } from "./secret.ts";
import { unauthenticated } from "./unauthenticated.ts";

/** A client's certificate, whose chain and possession TLS has checked. */
export interface ClientCertificate {
	/** Its subject alternative names, as `subjectNames` gives them. */
	readonly names: readonly string[];
	/** Milliseconds since 1970 from which on it is good for nothing: a connection may live longer. */
	readonly validTo: number;
}

/** Tells whose a client's certificate is. */
export class CertificateVerifier {
	readonly #identities: () => Identities;
	readonly #keys: DerivedKeys;

	/** @param identities those there are now: who is taken away is nobody from the next call on */
	constructor(identities: () => Identities, keys: DerivedKeys) {
		this.#identities = identities;
		this.#keys = keys;
	}

	/**
	 * @returns undefined if none of its names means anything here: then it proves nothing, and hinders nothing
	 * @throws AuditError `unauthenticated` if it has expired, or names several
	 */
	verify({ names, validTo }: ClientCertificate): Principal | undefined {
		const all = this.#identities();
		const found = names.filter((name) => all.has(name));
		const [san] = found;
		const identity = san === undefined ? undefined : all.get(san);
		if (san === undefined || !identity) return undefined;
		if (found.length > 1 || validTo <= Date.now()) throw unauthenticated();
		const id = identityId(this.#keys, "mtls", [san]);
		return { kind: "mtls", id, keyId: id, ...identity, expiresAt: validTo };
	}
}

/**
 * Reads the subject alternative names of a certificate from Node's text of them, `DNS:a, URI:b`. Names that hold what
 * could be taken for the end of a name are quoted in it like JSON (CVE-2021-44532), so nothing is searched for: it is read
 * from the beginning, and what is not understood makes it no name at all.
 */
export function subjectNames(text: string | undefined): string[] {
	const names: string[] = [];
	let rest = text ?? "";
	while (rest !== "") {
		const [entry, kind, quoted, plain] = /^([A-Za-z ]+):(?:("(?:[^"\\]|\\.)*")|([^",]*))(?:, |$)/.exec(rest) ?? [];
		if (entry === undefined || kind === undefined) return [];
		names.push(normalName(`${kind}:${quoted === undefined ? plain : (JSON.parse(quoted) as string)}`));
		rest = rest.slice(entry.length);
	}
	return names;
}

/** Names of hosts have no case. */
export function normalName(name: string): string {
	return name.startsWith("DNS:") ? name.toLowerCase().replace("dns:", "DNS:") : name;
}
