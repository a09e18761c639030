import { readFileSync } from "node:fs";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import {
	type Authenticator,
	type ConnectionOptions,
	connect,
	credsAuthenticator,
	ErrorCode,
	type NatsConnection,
	NatsError,
	nkeyAuthenticator,
	type TlsOptions,
} from "nats";
import { type NatsAccess, type NatsPlace, readNatsUrl, seedIn } from "./nats-access.ts";

type Behaviour = Omit<ConnectionOptions, "servers" | "user" | "pass" | "token" | "authenticator" | "tls">;

/**
 * Connects to NATS. With `tls://`, authorities or a certificate of our own it is TLS or nothing, and nothing secret is sent
 * before the server's certificate is believed and names a host of the URL.
 *
 * @throws NatsError, or an error of TLS or of the socket; none repeats a credential
 */
export async function connectNats(access: NatsAccess, behaviour: Behaviour): Promise<NatsConnection> {
	const { credsFile, caFile, certFile } = access;
	const place = readNatsUrl(access.url);
	const secured = place.tls || caFile !== undefined || certFile !== undefined;
	try {
		return await connect({
			...behaviour,
			servers: [...place.servers],
			...place.login,
			...(credsFile !== undefined && { authenticator: fileAuthenticator(credsFile) }),
			...(secured && { tls: tlsOptions(access, place) }),
		});
	} catch (error) {
		throw explained(error, secured);
	}
}

function tlsOptions({ caFile, certFile, keyFile }: NatsAccess, { hosts }: NatsPlace): TlsOptions {
	return {
		// By name: the library reads them at every connection, so a renewed certificate needs no restart.
		...(caFile !== undefined && { caFile }),
		...(certFile !== undefined && { certFile }),
		...(keyFile !== undefined && { keyFile }),
		// Of a server known by its address the library knows no name, and Node takes that for "localhost".
		checkServerIdentity(name: string, certificate: PeerCertificate): Error | undefined {
			const names = name === "localhost" ? hosts : [name];
			const objections = names.map((host) => checkServerIdentity(host, certificate));
			return objections.includes(undefined) ? undefined : objections[0];
		},
	} as TlsOptions;
}

/**
 * Who we are, by a file that may be replaced at any time. The library ends for good if this throws while it reconnects, so
 * a file that cannot be read at that moment counts as not replaced yet.
 *
 * @throws Error if the file is no good from the start
 */
function fileAuthenticator(path: string): Authenticator {
	const read = (): Authenticator => {
		const content = readFileSync(path);
		const seed = seedIn(content.toString());
		return seed === undefined ? credsAuthenticator(content) : nkeyAuthenticator(new TextEncoder().encode(seed));
	};
	let latest = read();
	latest("");
	return (nonce) => {
		try {
			const replaced = read();
			const answer = replaced(nonce);
			latest = replaced;
			return answer;
		} catch {
			return latest(nonce);
		}
	};
}

/** The library's and OpenSSL's words for what a person has to mend, in plainer ones. */
function explained(error: unknown, secured: boolean): unknown {
	const { code = "", message } = error as NodeJS.ErrnoException;
	if (code === ErrorCode.ServerOptionNotAvailable && message === "tls") {
		return new NatsError("the NATS server offers no TLS, which is asked for here", code, error as Error);
	}
	if (/ALERT_.*(CERTIFICATE|UNKNOWN_CA)/.test(code)) {
		return new NatsError("the NATS server refuses our certificate, or asks for one", ErrorCode.Tls, error as Error);
	}
	if (secured && code === ErrorCode.Timeout) {
		// Of TLS 1.3 a client thinks it is through before the server has looked at its certificate.
		const what = "the NATS server did not answer in time, as one that does not like our certificate, or misses one";
		return new NatsError(what, ErrorCode.Tls, error as Error);
	}
	if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY|HOSTNAME/.test(code)) {
		return new NatsError(`the NATS server's certificate is refused: ${message}`, ErrorCode.Tls, error as Error);
	}
	return error;
}
