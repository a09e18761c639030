import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import type { ConnectionOptions } from "node:tls";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PERMISSIONS } from "../../src/auth/permissions.ts";
import { ROLES, type Role } from "../../src/auth/principal.ts";
import { AuditService, ExportFormat } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { DeadLetterService } from "../../src/gen/audit/v1/dead_letter_service_pb.ts";
import { type Ca, type CertificateRequest, type Issued, makeCa } from "../support/certificates.ts";
import { exportFile } from "../support/export-file.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";
import { askHttps, openTls, type TlsFolder, writeTlsFolder } from "../support/tls-files.ts";
import { AUDIENCE, ISSUER, makeSigningKey, signToken } from "../support/token-issuer.ts";

/** Tokens and certificates at the doors: they let in whom a key of the same role would let in, and nobody else. */

const signing = makeSigningKey("k1");
const sanOf = (role: Role, tenants: string) => `spiffe://example.com/${role}/${tenants}`;
const IDENTITIES = ROLES.flatMap((role) =>
	[["acme"], ["globex"], ["acme", "globex"], "*" as const].map((tenants) => ({
		san: `URI:${sanOf(role, String(tenants))}`,
		name: `${role} of ${String(tenants)}`,
		roles: [role],
		tenants,
	})),
);

let ca: Ca;
let clientCa: Ca;
let folder: TlsFolder;
let service: RpcService;
let eventId: string;
const problems: string[] = [];

beforeAll(async () => {
	[ca, clientCa] = await Promise.all([makeCa("servers"), makeCa("clients")]);
	const own = await ca.issue({ dnsNames: ["localhost"], ips: ["127.0.0.1"] });
	folder = writeTlsFolder(own, { ca: clientCa, identities: IDENTITIES });
	const jwt = {
		AUDIT_JWT_ISSUER: ISSUER,
		AUDIT_JWT_AUDIENCE: AUDIENCE,
		AUDIT_JWT_PUBLIC_KEY: signing.publicKey.export({ type: "spki", format: "pem" }) as string,
	};
	const logger = pino({ level: "error" }, { write: (line: string) => void problems.push(line) });
	service = await startRpcService({ env: { ...folder.env, ...jwt } }, logger);
	const operator = await certified("operator", "*");
	({ eventId } = await clientWith(operator).writeEvent({ event: { ...event, tenantId: "acme" } }));
	await clientWith(operator).writeEvent({ event: { ...event, tenantId: "globex" } });
});
afterAll(() => service.end());

const event = { action: "user.login", actor: { id: "jane" } };

/** What a caller brings. */
interface Caller {
	readonly headers?: Readonly<Record<string, string>>;
	readonly tls?: Pick<ConnectionOptions, "cert" | "key">;
}

type Tenants = "acme" | "globex" | "acme,globex" | "*";

async function certified(role: Role, tenants: Tenants): Promise<Caller> {
	return { tls: await issueClient({ uris: [sanOf(role, tenants)] }) };
}

async function withToken(role: Role, tenants: Tenants): Promise<Caller> {
	const token = await signToken(signing, { roles: [role], tenant_id: tenants.split(",") });
	return { headers: { authorization: `Bearer ${token}` } };
}

async function withKey(role: Role, tenants: Tenants): Promise<Caller> {
	const key = await service.createKey(role, tenants === "*" ? "all" : tenants.split(","));
	return { headers: { "x-api-key": key } };
}

function issueClient(request: CertificateRequest): Promise<Issued> {
	return clientCa.issue({ client: true, ...request });
}

const KINDS = { key: withKey, token: withToken, certificate: certified };

type AuditRpc = keyof typeof AuditService.method;
type AuditClient = ReturnType<typeof clientWith>;
const CALLS: Record<AuditRpc, (client: AuditClient, tenantId: string) => Promise<unknown>> = {
	writeEvent: (client, tenantId) => client.writeEvent({ event: { ...event, tenantId } }),
	batchWrite: (client, tenantId) => client.batchWrite({ events: [{ ...event, tenantId }] }),
	query: (client, tenantId) => client.query({ tenantId }),
	getEvent: (client, tenantId) => client.getEvent({ tenantId, id: eventId }),
	export: (client, tenantId) => exportFile(client, { query: { tenantId }, format: ExportFormat.CSV }),
};
const rpcs = Object.keys(CALLS) as AuditRpc[];

describe.each(Object.entries(KINDS))("with a %s", (_, caller) => {
	test.each(ROLES)("a %s may what the role may, for its tenants, and names one if it has several", async (role) => {
		const mine = clientWith(await caller(role, "acme"));
		const both = clientWith(await caller(role, "acme,globex"), "grpc");
		const all = clientWith(await caller(role, "*"));
		const others = clientWith(await caller(role, "globex"), "grpc");
		for (const rpc of rpcs) {
			const may = (PERMISSIONS[rpc] as readonly Role[]).includes(role);
			const [ok, notFound] = may ? ["ok", "NotFound"] : ["PermissionDenied", "PermissionDenied"];
			for (const client of [mine, both, all])
				expect([rpc, await codeOf(CALLS[rpc](client, "acme"))]).toEqual([rpc, ok]);
			expect([rpc, await codeOf(CALLS[rpc](mine, ""))]).toEqual([rpc, ok]);
			expect([rpc, await codeOf(CALLS[rpc](others, "acme"))]).toEqual([rpc, notFound]);
			if (may && rpc !== "batchWrite") expect(await codeOf(CALLS[rpc](all, ""))).toBe("InvalidArgument");
		}
	});
});

test("over REST too", async () => {
	const path = "/v1/audit/events?tenant_id=acme";
	for (const caller of Object.values(KINDS)) {
		expect((await rest(path, await caller("reader", "acme"))).status).toBe(200);
		expect((await rest(path, await caller("reader", "globex"))).status).toBe(404);
		expect((await rest(path, await caller("writer", "acme"))).status).toBe(403);
	}
});

test("what stays of it in the log is an id that says nothing of the name", async () => {
	const { headers = {} } = await withToken("writer", "acme");
	const admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	for (const [caller, id] of [
		[{ headers }, /"recorded_by":\{[^}]*"jwt_[0-9a-f]{12}"/],
		[await certified("writer", "acme"), /"recorded_by":\{[^}]*"mtls_[0-9a-f]{12}"/],
	] as const) {
		const written = await clientWith(caller).writeEvent({ event });
		const { rows } = await admin.query<{ row: string }>(
			"SELECT to_jsonb(e)::text AS row FROM audit.events e WHERE id = $1",
			[written.eventId],
		);
		const facts = (JSON.parse(rows[0]?.row ?? "{}") as { u_facts: string }).u_facts;
		expect(facts).toMatch(id);
		expect(rows[0]?.row).not.toMatch(/spiffe|writer of acme/);
	}
	await admin.end();
});

test("what is done with dead letters tells who did it, and how they were known", async () => {
	const admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	const created = new Date("2026-01-31T12:00:00Z");
	for (const [seq, [kind, type, id]] of [
		["key", "ACTOR_TYPE_API_KEY", /^[0-9a-f]{12}$/],
		["token", "ACTOR_TYPE_USER", /^jwt_[0-9a-f]{12}$/],
		["certificate", "ACTOR_TYPE_SERVICE", /^mtls_[0-9a-f]{12}$/],
	].entries() as ArrayIterator<[number, [keyof typeof KINDS, string, RegExp]]>) {
		await admin.query(
			`INSERT INTO audit.dead_letters (stream_created, stream_seq, position, tenant_id, subject, reason, message, headers, body, published_at)
			 VALUES ($1, $2, 0, 'acme', 'audit.events.acme', 'INVALID_EVENT', 'as it was', '{}', '{}', now())`,
			[created, seq],
		);
		const letter = `${created.getTime().toString(36)}-${seq}-0`;
		const letters = createClient(DeadLetterService, transportOf(await KINDS[kind]("operator", "acme")));
		await letters.discardDeadLetters({ ids: [letter], reason: "of no use" });
		const { rows } = await admin.query<{ actor: unknown }>(
			`SELECT u_actor::jsonb -> 'actor' AS actor FROM audit.events
			 WHERE action = 'audit.dead_letters.discarded' AND resource_id = $1`,
			[letter],
		);
		const actor = { type, id: expect.stringMatching(id), display_name: expect.stringMatching(/./) };
		expect(rows).toEqual([{ actor }]);
	}
	await admin.end();
});

describe("two credentials are none", () => {
	const UNKNOWN = "[unauthenticated] a valid key or token is required: send Authorization: Bearer <key>";
	const refused = async (caller: Caller) =>
		expect(await messageOf(CALLS.query(clientWith(caller), "acme"))).toBe(UNKNOWN);

	test("a certificate and a key or token, though each of them is good, and of the same role and tenant", async () => {
		const certificate = await certified("reader", "acme");
		await refused({ ...certificate, ...(await withKey("reader", "acme")) });
		await refused({ ...certificate, ...(await withToken("reader", "acme")) });
		await refused({ ...certificate, headers: { "x-api-key": "nonsense" } });
		await refused({ ...certificate, headers: { authorization: "Basic eDp5" } });
	});

	test("a key and a token", async () => {
		const headers = { ...(await withToken("reader", "acme")).headers, ...(await withKey("reader", "acme")).headers };
		await refused({ headers });
		const { authorization = "" } = headers as Record<string, string>;
		const same = { authorization, "x-api-key": authorization.replace("Bearer ", "") };
		expect(await codeOf(CALLS.query(clientWith({ headers: same }), "acme"))).toBe("ok");
	});

	test("a certificate that means nothing here is no credential: a key or token beside it counts", async () => {
		const tls = await issueClient({ uris: ["spiffe://example.com/somebody"] });
		await refused({ tls });
		for (const caller of [await withKey("reader", "acme"), await withToken("reader", "acme")]) {
			expect(await codeOf(CALLS.query(clientWith({ ...caller, tls }), "acme"))).toBe("ok");
		}
	});

	test("what a proxy says of a certificate is not listened to, and a token in the URL is not read", async () => {
		const { cert } = await issueClient({ uris: [sanOf("operator", "*")] });
		const headers = {
			"x-forwarded-client-cert": `By=spiffe://a;Hash=00;URI=${sanOf("operator", "*")};Cert="${encodeURIComponent(cert)}"`,
			"ssl-client-cert": encodeURIComponent(cert),
			"x-ssl-client-verify": "SUCCESS",
		};
		await refused({ headers });
		const token = (await withToken("operator", "*")).headers?.authorization?.slice(7) ?? "";
		expect((await rest(`/v1/audit/events?tenant_id=acme&access_token=${token}&token=${token}`, {})).status).toBe(401);
	});
});

describe("a certificate of a client", () => {
	const path = "/v1/audit/events?tenant_id=acme";
	const san = sanOf("reader", "acme");

	const strangers: [string, () => Promise<Issued>][] = [
		["of another authority", async () => (await makeCa("clients")).issue({ client: true, uris: [san] })],
		["of the authority of servers", () => ca.issue({ client: true, uris: [san] })],
		["that has expired", () => issueClient({ uris: [san], days: -2 })],
		["for servers", () => clientCa.issue({ uris: [san] })],
	];
	test.each(strangers)("%s loses the connection on both ports, with a key too", async (_, issue) => {
		const tls = await issue();
		const caller = { ...(await withKey("reader", "acme")), tls };
		await expect(rest(path, caller)).rejects.toThrow();
		for (const url of [service.httpUrl, service.grpcUrl]) {
			const outcome = await openTls(url, { ca: ca.pem, ...tls, ALPNProtocols: ["h2"] }).then(
				async (socket) => {
					socket.on("error", () => {}).resume();
					await new Promise((resolve) => socket.once("close", resolve));
					return "closed";
				},
				() => "refused",
			);
			expect(["closed", "refused"]).toContain(outcome);
		}
		expect((await rest("/livez", {})).status).toBe(200);
	});

	test("is not needed: who has a key or a token, and who asks for health, shows none", async () => {
		expect((await rest(path, await withKey("reader", "acme"))).status).toBe(200);
		expect((await rest("/readyz", {})).status).toBe(200);
		expect((await rest(path, {})).status).toBe(401);
	});

	test("is asked for anew at each connection: no session is taken up again", async () => {
		const tls = await issueClient({ uris: [san] });
		for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
			const options = { ca: ca.pem, maxVersion, ALPNProtocols: ["http/1.1"] };
			const first = await openTls(service.httpUrl, { ...options, ...tls });
			const sessions: Buffer[] = [];
			first.on("session", (session: Buffer) => sessions.push(session));
			first.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
			const [answer] = (await once(first, "data")) as [Buffer];
			expect(answer.toString()).toMatch(/^HTTP\/1.1 200/);
			const session = sessions.at(-1) ?? first.getSession();
			first.destroy();
			// With the session of somebody who had one, and none of its own.
			const second = await openTls(service.httpUrl, { ...options, ...(session && { session }) });
			expect(second.isSessionReused()).toBe(false);
			second.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
			const [refusal] = (await once(second, "data")) as [Buffer];
			expect(refusal.toString()).toMatch(/^HTTP\/1.1 401/);
			second.destroy();
		}
	});

	test("ends with its time, though the connection goes on", async () => {
		// Certificates know no parts of seconds.
		const tls = await issueClient({ uris: [san], days: 6 / 86_400 });
		const session = connectHttp2(service.httpUrl, { ca: ca.pem, ...tls });
		const status = async () => {
			const request = session.request({ ":path": path });
			request.resume();
			const [headers] = (await once(request, "response")) as [Record<string, unknown>];
			return headers[":status"];
		};
		expect(await status()).toBe(200);
		await waitFor(async () => (await status()) === 401, { what: "the end of the certificate" });
		expect(session.closed).toBe(false);
		session.close();
	});

	test("is somebody else's, or nobody's, as soon as the file says so; a file of no use says nothing", async () => {
		const caller = await certified("reader", "acme");
		const client = clientWith(caller);
		const isRead = async (identities: string, code: string) => {
			folder.write({ identities });
			service.reload();
			await waitFor(async () => (await codeOf(CALLS.query(client, "acme"))) === code, { what: code });
		};
		const others = JSON.stringify(IDENTITIES.filter((identity) => identity.san !== `URI:${san}`));
		await isRead(others, "Unauthenticated");
		await isRead(JSON.stringify(IDENTITIES), "ok");
		await isRead(
			JSON.stringify([{ san: `URI:${san}`, name: "x", roles: ["writer"], tenants: ["acme"] }]),
			"PermissionDenied",
		);
		await isRead(JSON.stringify(IDENTITIES), "ok");
		for (const useless of ["", "[{}]", others.replace('"roles"', '"rules"')]) {
			folder.write({ identities: useless });
			problems.length = 0;
			service.reload();
			await waitFor(() => problems.some((line) => line.includes("AUDIT_MTLS_IDENTITIES_FILE")), {
				what: "the refusal",
			});
			expect(await codeOf(CALLS.query(client, "acme"))).toBe("ok");
		}
		folder.write({ identities: JSON.stringify(IDENTITIES) });
	});

	test("of a new authority is believed once that is in the file, and one of the old no longer", async () => {
		const next = await makeCa("next clients");
		const tls = await next.issue({ client: true, uris: [san] });
		const old = await certified("reader", "acme");
		await expect(rest(path, { tls })).rejects.toThrow();
		folder.write({ clientCa: next.pem });
		service.reload();
		const status = async () => (await rest(path, { tls })).status;
		await waitFor(async () => (await status()) === 200, { what: "the new authority" });
		await expect(rest(path, old)).rejects.toThrow();
		folder.write({ clientCa: `${clientCa.pem}\n${next.pem}` });
		service.reload();
		await waitFor(async () => (await rest(path, old)).status === 200, { what: "both authorities" });
		expect(await status()).toBe(200);
	});
});

function rest(path: string, { headers = {}, tls = {} }: Caller) {
	return askHttps(`${service.httpUrl}${path}`, { ca: ca.pem, headers, ...tls });
}

function clientWith(caller: Caller, kind?: "connect" | "grpc") {
	return createClient(AuditService, transportOf(caller, kind));
}

function transportOf({ headers = {}, tls = {} }: Caller, kind: "connect" | "grpc" = "connect") {
	const send: Interceptor = (next) => (request) => {
		for (const [name, value] of Object.entries(headers)) request.header.set(name, value);
		return next(request);
	};
	const options = { nodeOptions: { ca: ca.pem, ...tls }, interceptors: [send] };
	if (kind === "grpc") return createGrpcTransport({ baseUrl: service.grpcUrl, ...options });
	return createConnectTransport({ baseUrl: service.httpUrl, httpVersion: "2", ...options });
}

async function codeOf(call: Promise<unknown>): Promise<string> {
	return call.then(
		() => "ok",
		(error: unknown) => Code[ConnectError.from(error).code],
	);
}

async function messageOf(call: Promise<unknown>): Promise<string> {
	return call.then(
		() => "ok",
		(error: unknown) => ConnectError.from(error).message,
	);
}
