import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, DEFAULT_MIN_VERSION, type SecureVersion } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { AuditService } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { DoorLimits } from "../../src/rpc/limits.ts";
import { RereadFiles } from "../../src/rpc/reread-files.ts";
import { readTlsMaterial, type TlsMaterial } from "../../src/rpc/tls-material.ts";
import { type Ca, type Issued, makeCa } from "../support/certificates.ts";
import { createKey, type RpcService, startDoors, startRpcService } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, waitFor } from "../support/services.ts";
import { askHttps, openTls, type TlsFolder, writeTlsFolder } from "../support/tls-files.ts";

/** TLS on both ports, and nothing else on them. */

let ca: Ca;
let own: Issued;
let folder: TlsFolder;
let service: RpcService;
let key: string;
const logged: { level: number; msg: string; problem?: string }[] = [];
const issue = () => ca.issue({ dnsNames: ["localhost"], ips: ["127.0.0.1"] });

beforeAll(async () => {
	ca = await makeCa();
	own = await issue();
	folder = writeTlsFolder(own);
	const logger = pino({ level: "info" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
	service = await startRpcService({ env: folder.env }, logger);
	key = await service.createKey("operator", "all");
});
afterAll(() => service.end());

const closers: (() => unknown)[] = [];
afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

const event = { tenantId: "acme", action: "user.login", actor: { id: "jane" } };

function clientWith(kind: "grpc" | "connect", baseUrl: string, httpVersion: "1.1" | "2" = "2") {
	const options = {
		baseUrl,
		httpVersion,
		nodeOptions: { ca: ca.pem },
		interceptors: [
			(next: (request: never) => Promise<never>) => (request: { header: Headers }) => {
				request.header.set("authorization", `Bearer ${key}`);
				return next(request as never);
			},
		],
	};
	const transport = kind === "grpc" ? createGrpcTransport(options as never) : createConnectTransport(options as never);
	return createClient(AuditService, transport);
}

describe("over TLS", () => {
	test("both ports serve what they serve without it", async () => {
		expect([new URL(service.httpUrl).protocol, new URL(service.grpcUrl).protocol]).toEqual(["https:", "https:"]);
		const clients = [
			clientWith("grpc", service.grpcUrl),
			clientWith("grpc", service.httpUrl),
			clientWith("connect", service.grpcUrl),
			clientWith("connect", service.httpUrl),
			clientWith("connect", service.httpUrl, "1.1"),
		];
		for (const client of clients) {
			expect((await client.writeEvent({ event })).eventId).toMatch(/^[0-9a-f-]{36}$/);
			expect((await client.query({ tenantId: "acme" })).events.length).toBeGreaterThan(0);
		}
		for (const client of [
			connectHttp2(service.httpUrl, { ca: ca.pem }),
			connectHttp2(service.grpcUrl, { ca: ca.pem }),
		]) {
			const [headers] = (await once(client.request({ ":path": "/nowhere" }), "response")) as [Record<string, unknown>];
			expect(headers["strict-transport-security"]).toBe("max-age=63072000");
			client.close();
		}
		const rest = { ca: ca.pem, headers: { "x-api-key": key } };
		expect((await askHttps(`${service.httpUrl}/v1/audit/events?tenant_id=acme`, rest)).status).toBe(200);
		expect((await askHttps(`${service.httpUrl}/readyz`, { ca: ca.pem })).status).toBe(200);
	});

	test.each(["httpUrl", "grpcUrl"] as const)("%s speaks TLS 1.2 and 1.3, and none that is older", async (port) => {
		// Older ones are switched off in Node's own clients, too: with their ciphers they are on again.
		expect(DEFAULT_MIN_VERSION).toBe("TLSv1.2");
		const versions: Record<string, string> = {};
		for (const version of ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const) {
			versions[version] = await negotiated(service[port], version);
		}
		expect(versions).toEqual({
			TLSv1: "refused",
			"TLSv1.1": "refused",
			"TLSv1.2": "TLSv1.2",
			"TLSv1.3": "TLSv1.3",
		});
	});

	test("the client chooses the protocol in the handshake", async () => {
		const chosen = async (url: string, ALPNProtocols?: string[]) => {
			const socket = await openTls(url, { ca: ca.pem, ...(ALPNProtocols && { ALPNProtocols }) });
			closers.push(() => socket.destroy());
			return socket.alpnProtocol;
		};
		expect(await chosen(service.httpUrl, ["http/1.1", "h2"])).toBe("h2");
		expect(await chosen(service.httpUrl, ["http/1.1"])).toBe("http/1.1");
		expect(await chosen(service.grpcUrl, ["h2"])).toBe("h2");
		await expect(chosen(service.grpcUrl, ["http/1.1"])).rejects.toThrow(/alert/);
		await expect(chosen(service.httpUrl, ["spdy/3"])).rejects.toThrow(/alert/);
	});

	test.each(["httpUrl", "grpcUrl"] as const)("%s says nothing to those who do not speak TLS", async (port) => {
		const strangers = [
			"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"\0".repeat(300),
			"\x16\x03\x01\xff\xff",
		];
		for (const bytes of strangers) {
			const socket = await openTcp(service[port]);
			socket.end(bytes, "latin1");
			// A TLS alert (type 21) at most.
			const answer = await received(socket);
			expect([0, 7]).toContain(answer.length);
			expect([undefined, 21]).toContain(answer[0]);
		}
		expect((await askHttps(`${service.httpUrl}/livez`, { ca: ca.pem })).status).toBe(200);
	});
});

describe("handshakes", () => {
	test("that do not end in time end the connection, however busily they go on", async () => {
		const doors = await doorsWith({ headersMs: 300 });
		for (const url of [doors.httpUrl, doors.grpcUrl]) {
			await closed(await openTcp(url));
			const socket = await openTcp(url);
			const hello = await clientHello();
			let sent = 0;
			const timer = setInterval(() => socket.write(hello.subarray(sent, (sent += 1))), 20);
			closers.push(() => clearInterval(timer));
			await closed(socket);
			expect(sent).toBeLessThan(hello.length);
		}
	});

	test.each(["http/1.1", "h2"])("after which nothing is said over %s end the connection, too", async (protocol) => {
		const doors = await doorsWith({ headersMs: 300, pingMs: 100, pongMs: 200 });
		await closed(await openTls(doors.httpUrl, { ca: ca.pem, ALPNProtocols: [protocol] }));
	});

	test("are connections like others: beyond the bound there are no more, and when they end there is room", async () => {
		const doors = await doorsWith({ connections: 5, connectionsPerAddress: 5 });
		const begun = await Promise.all(Array.from({ length: 5 }, () => openTcp(doors.httpUrl)));
		await closed(await openTcp(doors.httpUrl));
		await closed(await openTcp(doors.grpcUrl));
		for (const socket of begun) socket.destroy();
		const isServed = async () => (await askHttps(`${doors.httpUrl}/livez`, { ca: ca.pem })).status === 200;
		await waitFor(isServed, { what: "room for another" });
	});

	test("that break off in the middle, in any number, harm nobody", async () => {
		const doors = await doorsWith();
		const hello = await clientHello();
		const flood = Array.from({ length: 200 }, async (_, i) => {
			const socket = await openTcp(i % 2 ? doors.httpUrl : doors.grpcUrl);
			socket.write(hello.subarray(0, i % 3 ? hello.length : 50), () => socket.destroy());
			await closed(socket);
		});
		await Promise.all(flood);
		expect((await askHttps(`${doors.httpUrl}/livez`, { ca: ca.pem })).status).toBe(200);
	});
});

describe("a connection over TLS", () => {
	test("that is silent and answers is kept; one that does not answer is not", async () => {
		const doors = await doorsWith({ pingMs: 50, pongMs: 100 });
		const session = openSession(doors.grpcUrl);
		let pings = 0;
		session.on("ping", () => (pings += 1));
		await waitFor(() => pings > 5, { what: "pings" });
		expect(await statusOf(session, "/livez")).toBe(404);

		const mute = await openTls(doors.grpcUrl, { ca: ca.pem, ALPNProtocols: ["h2"] });
		mute.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1");
		await closed(mute);
	});

	test("finishes its call when the service stops, is told to go elsewhere, and no other is taken", async () => {
		const { promise: asked, resolve: isAsked } = Promise.withResolvers<void>();
		const { promise: answer, resolve: giveAnswer } = Promise.withResolvers<void>();
		const readiness = async () => {
			isAsked();
			await answer;
			return { ready: true, degraded: [] };
		};
		const doors = await startDoors({ tls: await files(), readiness, limits: { drainMs: 10_000 } });
		const session = openSession(doors.httpUrl);
		const goneAway = once(session, "goaway");
		const status = statusOf(session, "/readyz");
		await asked;
		const ended = doors.close();
		await goneAway;
		await expect(openTls(doors.httpUrl, { ca: ca.pem })).rejects.toThrow();
		giveAnswer();
		expect(await status).toBe(200);
		await ended;
	});
});

describe("the certificate", () => {
	test("is changed while calls go on: none fails, who is connected stays, who comes sees the new one", async () => {
		const before = await shown();
		const session = openSession(service.httpUrl);
		const statuses = new Set<number>();
		let asking = true;
		const load = Array.from({ length: 4 }, async () => {
			while (asking) {
				statuses.add(await statusOf(session, "/readyz"));
				statuses.add((await askHttps(`${service.httpUrl}/readyz`, { ca: ca.pem })).status);
			}
		});
		for (let i = 0; i < 3; i += 1) {
			const next = await issue();
			folder.write(next);
			service.reload();
			await waitFor(async () => (await shown()) === fingerprintOf(next), { what: "the new certificate" });
			expect(await shown(service.grpcUrl)).toBe(fingerprintOf(next));
		}
		asking = false;
		await Promise.all(load);
		expect([...statuses]).toEqual([200]);
		expect(session.closed).toBe(false);
		expect(await shown()).not.toBe(before);
	});

	test("that is of no use does not replace the one there is, and is told of once", async () => {
		const other = await issue();
		const expected: [Parameters<TlsFolder["write"]>[0], RegExp][] = [
			[{ cert: "garbage" }, /TLS_CERT_FILE must hold certificates/],
			[{ cert: "" }, /TLS_CERT_FILE must hold certificates/],
			[{ cert: own.cert.replace(/[A-Za-z]{20}/, "A".repeat(20)) }, /TLS_CERT_FILE/],
			[{ cert: other.cert, key: own.key }, /TLS_KEY_FILE is not the key/],
			[{ cert: other.cert, key: "garbage" }, /TLS_KEY_FILE must hold a private key/],
		];
		const before = await shown();
		for (const [wrong, problem] of expected) {
			logged.length = 0;
			folder.write(wrong);
			service.reload();
			await waitFor(() => logged.some((line) => problem.test(line.problem ?? "")), { what: String(problem) });
			service.reload();
			expect(await shown()).toBe(before);
			expect(await shown(service.grpcUrl)).toBe(before);
			expect(logged.filter(({ level }) => level >= 50)).toHaveLength(1);
			expect(JSON.stringify(logged)).not.toMatch(/PRIVATE|BEGIN|garbage/);
		}
		folder.write(other);
		service.reload();
		await waitFor(async () => (await shown()) === fingerprintOf(other), { what: "the new certificate" });
	});

	test("says in the metrics for how long it is still good", async () => {
		const { body } = await askHttps(`${service.httpUrl}/metrics`, { ca: ca.pem });
		const seconds = Number(/^audit_tls_certificate_expires_seconds (\S+)$/m.exec(body)?.[1]);
		expect(seconds).toBeGreaterThan(86_000);
		expect(seconds).toBeLessThanOrEqual(86_400);
	});
});

describe("the program", () => {
	test("reads its files again at SIGHUP, and by itself; its commands reach it with NODE_EXTRA_CA_CERTS", async () => {
		const database = await createTestDatabase();
		const ownFolder = writeTlsFolder(own);
		const running = await startService({
			DATABASE_URL: database.url,
			AUDIT_AUTO_CREATE_TENANTS: "true",
			AUDIT_DRAIN_MS: "500",
			...ownFolder.env,
		});
		try {
			const next = await issue();
			ownFolder.write(next);
			running.kill("SIGHUP");
			await waitFor(async () => (await shown(running.httpUrl)) === fingerprintOf(next), { what: "SIGHUP" });
			const last = await issue();
			ownFolder.write(last);
			await waitFor(async () => (await shown(running.httpUrl)) === fingerprintOf(last), { what: "the next look" });

			const caFile = join(ownDirectory("ca"));
			writeFileSync(caFile, ca.pem);
			const env = { AUDIT_URL: running.httpUrl, AUDIT_KEY: await createKey(database.url, "operator", "all") };
			const trusting = { ...env, NODE_EXTRA_CA_CERTS: caFile };
			const written = await runCli(
				["write", "--tenant", "acme", "--action", "user.login", "--actor", "jane"],
				trusting,
			);
			expect([written.stderr, written.exitCode]).toEqual(["", 0]);
			const found = await runCli(["query", "--tenant", "acme", "-o", "json"], {
				...trusting,
				AUDIT_URL: running.grpcUrl,
			});
			expect(found.stdout).toContain("user.login");
			expect((await runCli(["health"], trusting)).stdout).toMatch(/^ready/);
			// Without the authority the service is nobody, and is told nothing.
			expect((await runCli(["query", "--tenant", "acme"], env)).exitCode).toBe(1);
			expect((await runCli(["health"], env)).exitCode).toBe(1);
			// In its own container it is found by its settings, whatever its certificate is for.
			const beside = {
				DATABASE_URL: database.url,
				AUDIT_SECRET: "x".repeat(32),
				HTTP_PORT: new URL(running.httpUrl).port,
			};
			const health = await runCli(["health"], { ...beside, ...ownFolder.env });
			expect([health.stdout.slice(0, 5), health.exitCode]).toEqual(["ready", 0]);
		} finally {
			expect(await running.stop()).toBe(0);
			await database.drop();
		}
	});

	test("does not start with files that are of no use, and says which", async () => {
		const database = await createTestDatabase();
		const wrong = writeTlsFolder({ cert: own.cert, key: (await issue()).key });
		const start = startService({ DATABASE_URL: database.url, ...wrong.env });
		await expect(start).rejects.toThrow(
			/^the service did not start:[^]*error: TLS_KEY_FILE is not the key of the first certificate in TLS_CERT_FILE/,
		);
		await database.drop();
	});

	test("warns when it can be reached from elsewhere and nothing is encrypted", async () => {
		const database = await createTestDatabase();
		const open = await startService({ DATABASE_URL: database.url, HOST: "0.0.0.0" });
		const local = await startService({ DATABASE_URL: database.url });
		expect(open.stdout.match(/the ports are not encrypted/g)).toHaveLength(1);
		expect(local.stdout).not.toContain("not encrypted");
		await Promise.all([open.stop(), local.stop()]);
		await database.drop();
	});
});

async function files(): Promise<RereadFiles<TlsMaterial>> {
	const { env } = writeTlsFolder(own);
	const paths = [env.TLS_CERT_FILE, env.TLS_KEY_FILE] as string[];
	return RereadFiles.open({ paths, parse: readTlsMaterial, logger: pino({ level: "silent" }) });
}

async function doorsWith(limits: Partial<DoorLimits> = {}) {
	const doors = await startDoors({ tls: await files(), limits });
	closers.push(() => doors.close());
	return doors;
}

async function negotiated(url: string, version: SecureVersion): Promise<string> {
	try {
		const ciphers = "DEFAULT@SECLEVEL=0";
		const socket = await openTls(url, {
			ca: ca.pem,
			minVersion: version,
			maxVersion: version,
			ciphers,
			ALPNProtocols: ["h2"],
		});
		const protocol = String(socket.getProtocol());
		socket.destroy();
		return protocol;
	} catch (error) {
		// Refused by the service, not by our own side.
		return /alert/.test((error as Error).message) ? "refused" : String(error);
	}
}

async function shown(url = service.httpUrl): Promise<string> {
	const socket = await openTls(url, { ca: ca.pem, ALPNProtocols: ["h2"] });
	const { fingerprint256 } = socket.getPeerCertificate();
	socket.destroy();
	return fingerprint256;
}

function fingerprintOf({ cert }: Issued): string {
	return new X509Certificate(cert).fingerprint256;
}

function openSession(url: string): ClientHttp2Session {
	const session = connectHttp2(url, { ca: ca.pem });
	session.on("error", () => {});
	closers.push(() => session.destroy());
	return session;
}

async function statusOf(session: ClientHttp2Session, path: string): Promise<number> {
	const request = session.request({ ":path": path });
	request.resume();
	const [headers] = (await once(request, "response")) as [Record<string, unknown>];
	return Number(headers[":status"]);
}

async function openTcp(url: string): Promise<Socket> {
	const { hostname, port } = new URL(url);
	const socket = connectTcp(Number(port), hostname);
	socket.on("error", () => {});
	closers.push(() => socket.destroy());
	await once(socket, "connect");
	return socket;
}

/** Reset is closed, too: `once` of node:events would reject. */
async function closed(socket: Socket): Promise<void> {
	socket.on("error", () => {}).resume();
	if (!socket.destroyed) await new Promise((resolve) => socket.once("close", resolve));
}

async function received(socket: Socket): Promise<Buffer> {
	const chunks: Buffer[] = [];
	socket.on("data", (chunk: Buffer) => chunks.push(chunk));
	await closed(socket);
	return Buffer.concat(chunks);
}

/** What a client says first. */
async function clientHello(): Promise<Buffer> {
	const { createServer } = await import("node:net");
	const { promise, resolve } = Promise.withResolvers<Buffer>();
	const server = createServer((socket) => socket.once("data", resolve)).listen(0, "127.0.0.1");
	await once(server, "listening");
	const client = connectTls({ host: "127.0.0.1", port: (server.address() as { port: number }).port });
	client.on("error", () => {});
	const hello = await promise;
	client.destroy();
	server.close();
	return hello;
}
