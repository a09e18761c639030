import type { Socket } from "node:net";
import type { TLSSocket, Server as TlsServer } from "node:tls";
import { type ClientCertificate, subjectNames } from "../auth/mtls.ts";
import type { RereadFiles } from "./reread-files.ts";
import type { TlsMaterial } from "./tls-material.ts";

/** What changes while the ports are open. */
export type TlsFiles = Pick<RereadFiles<TlsMaterial>, "value" | "onChange">;

/** What a server with TLS is made with, whatever it speaks above it. */
export function tlsOptions({ value }: TlsFiles, handshakeMs: number) {
	return {
		...value.context,
		requestCert: value.asksClients,
		// Whoever has none may have a key; whoever has one that is not believed is turned away below.
		rejectUnauthorized: false,
		// Of the whole handshake.
		handshakeTimeout: handshakeMs,
	};
}

/**
 * Puts the handshake before what a server does with a connection. Whoever does not come through it loses the connection,
 * and nothing is said to those who do not speak TLS.
 *
 * @param accept gets the connections that came through
 * @returns takes a new connection
 */
export function behindTls(
	server: TlsServer,
	files: TlsFiles,
	accept: (socket: TLSSocket) => void,
): (socket: Socket) => void {
	const [shakeHands] = server.listeners("connection");
	for (const event of ["connection", "secureConnection", "tlsClientError"]) server.removeAllListeners(event);
	server.on("tlsClientError", (_, socket) => socket.destroy());
	server.on("secureConnection", (socket) => {
		if (showsCertificate(socket)) accept(socket);
		else socket.destroy();
	});
	// Who is connected stays connected; whoever comes from now on sees the new certificate.
	files.onChange(({ context }) => server.setSecureContext(context));
	return (socket) => {
		socket.on("error", () => socket.destroy());
		shakeHands?.call(server, socket);
	};
}

const CERTIFICATE = Symbol("client certificate");
interface Certified {
	[CERTIFICATE]?: ClientCertificate;
}

/** Keeps the certificate that a client has shown. @returns false if it has shown one that is not to be believed */
function showsCertificate(socket: TLSSocket): boolean {
	const certificate = socket.getPeerX509Certificate();
	if (!certificate) return true;
	if (!socket.authorized) return false;
	const names = subjectNames(certificate.subjectAltName);
	(socket as Certified)[CERTIFICATE] = { names, validTo: certificate.validToDate.getTime() };
	return true;
}

/** What the client of a request's connection has shown. */
export function certificateOf(socket: Socket): ClientCertificate | undefined {
	return (socket as Certified)[CERTIFICATE];
}
