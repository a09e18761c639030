import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import type { Ca, Issued } from "./certificates.ts";
import { ownDirectory } from "./services.ts";

/** The files of a service with TLS, in a folder of their own. */
export interface TlsFolder {
	/** The settings that name them. */
	readonly env: Readonly<Record<string, string>>;
	/** Puts others in their place, each at once. */
	write(files: { cert?: string; key?: string; clientCa?: string; identities?: string }): void;
}

const NAMES = { cert: "tls.crt", key: "tls.key", clientCa: "clients.pem", identities: "identities.json" } as const;

/** @param clients the authority of clients, and who is who */
export function writeTlsFolder(own: Issued, clients?: { ca: Ca; identities: unknown }): TlsFolder {
	const folder = ownDirectory("tls");
	mkdirSync(folder, { recursive: true });
	const path = (name: keyof typeof NAMES) => join(folder, NAMES[name]);
	const write: TlsFolder["write"] = (files) => {
		for (const [name, content] of Object.entries(files)) {
			const target = path(name as keyof typeof NAMES);
			writeFileSync(`${target}.new`, content);
			renameSync(`${target}.new`, target);
		}
	};
	write({ cert: own.cert, key: own.key });
	if (clients) write({ clientCa: clients.ca.pem, identities: JSON.stringify(clients.identities) });
	const ofClients = { TLS_CLIENT_CA_FILE: path("clientCa"), AUDIT_MTLS_IDENTITIES_FILE: path("identities") };
	return { env: { TLS_CERT_FILE: path("cert"), TLS_KEY_FILE: path("key"), ...(clients && ofClients) }, write };
}

/** A handshake: the socket, or the error it ended with. A server may only say after it that it does not like the client. */
export function openTls(url: string, options: ConnectionOptions): Promise<TLSSocket> {
	return new Promise((resolve, reject) => {
		const { hostname, port } = new URL(url);
		const socket = connect({ host: hostname, port: Number(port), ...options }, () => resolve(socket));
		socket.once("error", reject);
		socket.once("close", () => reject(new Error("closed")));
	});
}

export interface HttpsAnswer {
	readonly status: number;
	readonly body: string;
	/** SHA-256 of the certificate that was shown. */
	readonly fingerprint: string;
}

/** One request over HTTP/1.1, on a connection of its own. */
export function askHttps(
	url: string,
	{
		method = "GET",
		headers = {},
		body,
		...tls
	}: ConnectionOptions & { method?: string; headers?: object; body?: string },
): Promise<HttpsAnswer> {
	return new Promise((resolve, reject) => {
		const options = { method, agent: false as const, headers: { ...headers }, ...tls };
		const request = httpsRequest(url, options, (response: IncomingMessage) => {
			const { fingerprint256 } = (response.socket as TLSSocket).getPeerCertificate();
			text(response).then(
				(answer) => resolve({ status: response.statusCode ?? 0, body: answer, fingerprint: fingerprint256 }),
				reject,
			);
		});
		request.once("error", reject).end(body);
	});
}
