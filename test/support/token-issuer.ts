import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, type JWTPayload, SignJWT } from "jose";

export const ISSUER = "https://issuer.example";
export const AUDIENCE = "audit";

export interface SigningKey {
	readonly kid: string;
	readonly alg: string;
	readonly privateKey: KeyObject;
	readonly publicKey: KeyObject;
}

export function makeSigningKey(kid: string, alg: "ES256" | "RS256" | "EdDSA" = "ES256"): SigningKey {
	if (alg === "ES256") return { kid, alg, ...generateKeyPairSync("ec", { namedCurve: "P-256" }) };
	if (alg === "RS256") return { kid, alg, ...generateKeyPairSync("rsa", { modulusLength: 2048 }) };
	return { kid, alg, ...generateKeyPairSync("ed25519") };
}

export const now = () => Math.floor(Date.now() / 1000);

/** A token that is good for an hour, as a writer of acme, unless it is said otherwise; `undefined` leaves a claim out. */
export function signToken(
	{ kid, alg, privateKey }: SigningKey,
	claims: Readonly<Record<string, unknown>> = {},
	header: Readonly<Record<string, unknown>> = {},
): Promise<string> {
	const usual = { iss: ISSUER, aud: AUDIENCE, sub: "jane", iat: now(), exp: now() + 3600 };
	const payload = { ...usual, tenant_id: "acme", roles: ["writer"], ...claims } as JWTPayload;
	return new SignJWT(payload).setProtectedHeader({ alg, kid, typ: "at+jwt", ...header }).sign(privateKey);
}

export async function jwksOf(...keys: readonly SigningKey[]): Promise<string> {
	const jwks = keys.map(async ({ kid, alg, publicKey }) => ({ ...(await exportJWK(publicKey)), kid, alg, use: "sig" }));
	return JSON.stringify({ keys: await Promise.all(jwks) });
}

/** A server that publishes keys: how it answers can be changed at any time. */
export interface JwksServer {
	readonly url: string;
	/** How often it was asked. */
	readonly asked: number;
	answer: (request: IncomingMessage, response: ServerResponse) => void;
	publish(...keys: readonly SigningKey[]): Promise<void>;
	/** Goes away: its port is closed. */
	stop(): Promise<void>;
	/** Comes back, on the same port. */
	start(): Promise<void>;
}

export async function startJwksServer(...keys: readonly SigningKey[]): Promise<JwksServer> {
	let asked = 0;
	let port = 0;
	const server = createServer((request, response) => {
		asked += 1;
		jwks.answer(request, response);
	});
	const start = async () => {
		server.listen(port, "127.0.0.1");
		await once(server, "listening");
		({ port } = server.address() as AddressInfo);
	};
	const jwks = {
		get url() {
			return `http://127.0.0.1:${port}/jwks.json`;
		},
		get asked() {
			return asked;
		},
		answer: (_: IncomingMessage, response: ServerResponse): void => void response.end(),
		async publish(...published: readonly SigningKey[]) {
			const body = await jwksOf(...published);
			jwks.answer = (_, response) => void response.setHeader("content-type", "application/json").end(body);
		},
		async stop() {
			const closed = once(server, "close");
			server.close();
			server.closeAllConnections();
			await closed;
		},
		start,
	};
	await jwks.publish(...keys);
	await start();
	return jwks;
}
