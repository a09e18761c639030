import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { demoApiKey, formatApiKey } from "../../src/auth/api-keys.ts";
import { PERMISSIONS, type RpcName } from "../../src/auth/permissions.ts";
import { ROLES, type Role } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import { AuditService, ExportFormat } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { exportFile } from "../support/export-file.ts";
import { createKey, type RpcService, startRpcService } from "../support/rpc-service.ts";
import { startOwnPostgres, testSecret } from "../support/services.ts";

let service: RpcService;
const keys: Record<string, string> = {};
let eventId: string;

beforeAll(async () => {
	service = await startRpcService();
	for (const role of ROLES) {
		for (const tenant of ["acme", "globex"]) keys[`${role} of ${tenant}`] = await service.createKey(role, [tenant]);
		keys[`${role} of both`] = await service.createKey(role, ["acme", "globex"]);
		keys[`${role} of all`] = await service.createKey(role, "all");
	}
	const event = { tenantId: "acme", action: "user.login", actor: { id: "jane" } };
	({ eventId } = await clientWith(keys["operator of all"]).writeEvent({ event }));
	await clientWith(keys["operator of all"]).writeEvent({ event: { ...event, tenantId: "globex" } });
});
afterAll(() => service.end());

type Client = ReturnType<typeof clientWith>;

type AuditRpc = keyof typeof AuditService.method;

/** Each RPC, about a tenant that is named or, with "", left to the key. Those about dead letters have tests of their own. */
const CALLS: Record<AuditRpc, (client: Client, tenantId: string) => Promise<unknown>> = {
	writeEvent: (client, tenantId) =>
		client.writeEvent({ event: { tenantId, action: "user.login", actor: { id: "jane" } } }),
	batchWrite: (client, tenantId) =>
		client.batchWrite({ events: [{ tenantId, action: "user.login", actor: { id: "jane" } }] }),
	query: (client, tenantId) => client.query({ tenantId }),
	getEvent: (client, tenantId) => client.getEvent({ tenantId, id: eventId }),
	export: (client, tenantId) => exportFile(client, { query: { tenantId }, format: ExportFormat.CSV }),
};
const rpcs = Object.keys(CALLS) as AuditRpc[];

describe.each(rpcs)("%s", (rpc) => {
	const permitted: readonly Role[] = PERMISSIONS[rpc];
	const notPermitted = ROLES.filter((role) => !permitted.includes(role));

	test.each(permitted)("a %s's key of the tenant may, and need not name it", async (role) => {
		for (const tenantId of ["acme", ""]) {
			expect(await codeOf(CALLS[rpc](clientWith(keys[`${role} of acme`]), tenantId))).toBe("ok");
		}
	});

	test.each(permitted)("a %s's key of several or all tenants may, and must name one", async (role) => {
		for (const which of ["both", "all"]) {
			expect(await codeOf(CALLS[rpc](clientWith(keys[`${role} of ${which}`]), "acme"))).toBe("ok");
			const unnamed = await codeOf(CALLS[rpc](clientWith(keys[`${role} of ${which}`]), ""));
			// A batch answers for each of its events.
			expect(unnamed).toBe(rpc === "batchWrite" ? "ok" : "InvalidArgument");
		}
	});

	test.each(ROLES)("for a %s's key of another tenant this one does not exist", async (role) => {
		const other = CALLS[rpc](clientWith(keys[`${role} of globex`]), "acme");
		// A role that may not call this at all is told so, whatever the tenant.
		expect(await codeOf(other)).toBe(notPermitted.includes(role) ? "PermissionDenied" : "NotFound");
	});

	test.each(ROLES)("for a %s's key a tenant of others cannot be told from one that nobody has", async (role) => {
		const client = clientWith(keys[`${role} of globex`]);
		expect(await messageOf(CALLS[rpc](client, "acme"))).toBe(await messageOf(CALLS[rpc](client, "nobody")));
	});

	test.each(notPermitted)("a %s's key of the tenant may not", async (role) => {
		for (const which of ["acme", "both", "all"]) {
			expect(await codeOf(CALLS[rpc](clientWith(keys[`${role} of ${which}`]), "acme"))).toBe("PermissionDenied");
		}
	});

	test("without a valid key nobody may, whatever is wrong with it", async () => {
		const valid = keys["operator of all"] as string;
		const [, id, secret] = valid.split("_") as [string, string, string];
		const invalid = [
			undefined,
			"",
			"x",
			`al_${id}`,
			`al_${id}_`,
			formatApiKey({ id, secret: "0".repeat(64) }),
			formatApiKey({ id: "0".repeat(12), secret: secret.slice(0, 64) }),
			`${valid}0`,
			valid.slice(0, -8),
			valid.toUpperCase(),
			formatApiKey(demoApiKey(deriveKeys(testSecret()), "never stored")),
		];
		const messages = await Promise.all(invalid.map((key) => messageOf(CALLS[rpc](clientWith(key), "acme"))));
		expect(new Set(messages)).toEqual(
			new Set(["[unauthenticated] a valid key or token is required: send Authorization: Bearer <key>"]),
		);
	});
});

describe("the same over REST", () => {
	const body = { tenant_id: "acme", action: "user.login", actor: { id: "jane" } };
	const requests: [string, RequestInit & { path: string }, RpcName][] = [
		["POST events", { path: "/v1/audit/events", method: "POST", body: JSON.stringify(body) }, "writeEvent"],
		[
			"POST events:batch",
			{ path: "/v1/audit/events:batch", method: "POST", body: JSON.stringify({ events: [body] }) },
			"batchWrite",
		],
		["GET events", { path: "/v1/audit/events?tenant_id=acme", method: "GET" }, "query"],
		["GET events/{id}", { path: "/v1/audit/events/ID?tenant_id=acme", method: "GET" }, "getEvent"],
	];

	test.each(requests)("%s", async (_, { path, ...init }, rpc) => {
		const permitted: readonly Role[] = PERMISSIONS[rpc];
		const statusWith = async (key: string | undefined) => {
			const headers = { "content-type": "application/json", ...(key !== undefined && { "x-api-key": key }) };
			return (await fetch(service.httpUrl + path.replace("ID", eventId), { ...init, headers })).status;
		};
		for (const role of ROLES) {
			expect(await statusWith(keys[`${role} of acme`])).toBe(permitted.includes(role) ? 200 : 403);
			expect(await statusWith(keys[`${role} of globex`])).toBe(permitted.includes(role) ? 404 : 403);
		}
		expect(await statusWith(undefined)).toBe(401);
		expect(await statusWith(formatApiKey({ id: "0".repeat(12), secret: "0".repeat(64) }))).toBe(401);
	});
});

test("a batch may hold events of several tenants: those the key cannot see do not exist for it", async () => {
	const event = { action: "user.login", actor: { id: "jane" } };
	const { results } = await clientWith(keys["writer of acme"]).batchWrite({
		events: [{ ...event, tenantId: "acme" }, { ...event, tenantId: "globex" }, event],
	});
	expect(results.map(({ result }) => result.case)).toEqual(["written", "error", "written"]);
	expect(results[1]?.result.value).toMatchObject({ code: "not_found", reason: "TENANT_NOT_FOUND" });
});

test("an event of another tenant is not found by its id, with or without that tenant's name", async () => {
	expect(await codeOf(CALLS.getEvent(clientWith(keys["reader of globex"]), ""))).toBe("NotFound");
	expect(await codeOf(CALLS.getEvent(clientWith(keys["reader of globex"]), "globex"))).toBe("NotFound");
});

describe("where the key is sent", () => {
	const status = async (headers: Record<string, string>) =>
		(await fetch(`${service.httpUrl}/v1/audit/events?tenant_id=acme`, { headers })).status;
	const key = () => keys["reader of acme"] as string;

	test("Authorization: Bearer, in any case, or x-api-key, or the same in both", async () => {
		expect(await status({ authorization: `Bearer ${key()}` })).toBe(200);
		expect(await status({ authorization: `bearer  ${key()}` })).toBe(200);
		expect(await status({ "x-api-key": key() })).toBe(200);
		expect(await status({ authorization: `Bearer ${key()}`, "x-api-key": key() })).toBe(200);
	});

	test("not two that differ, not another scheme, not the URL", async () => {
		expect(await status({ authorization: `Bearer ${key()}`, "x-api-key": keys["reader of both"] as string })).toBe(401);
		expect(await status({ authorization: `Basic ${key()}`, "x-api-key": key() })).toBe(401);
		expect((await fetch(`${service.httpUrl}/v1/audit/events?tenant_id=acme&key=${key()}`)).status).toBe(401);
	});

	test("a large gRPC call without a key is refused for that", async () => {
		const client = createClient(AuditService, createGrpcTransport({ baseUrl: service.grpcUrl }));
		expect(await codeOf(client.batchWrite({ events: Array(390).fill({ description: "x".repeat(10_000) }) }))).toBe(
			"Unauthenticated",
		);
	});
});

test("while the database is away a key that must be looked up gets UNAVAILABLE, not UNAUTHENTICATED", async () => {
	const { migrate } = await import("../../src/storage/migrate.ts");
	const { startServer } = await import("../../src/server.ts");
	const { loadConfig } = await import("../../src/config.ts");
	const { createLogger } = await import("../../src/logger.ts");
	const postgres = await startOwnPostgres();
	await migrate({ databaseUrl: postgres.url, secret: testSecret() });
	const key = await createKey(postgres.url, "reader", "all");
	const env = { DATABASE_URL: postgres.url, AUDIT_SECRET: testSecret(), HTTP_PORT: "0", GRPC_PORT: "0" };
	const server = await startServer(loadConfig(env), createLogger("silent"));
	try {
		await postgres.stop();
		const response = await fetch(`${server.httpUrl}/v1/audit/events?tenant_id=acme`, { headers: { "x-api-key": key } });
		expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
		expect(await response.json()).toMatchObject({ error: { code: "unavailable", retry_after_ms: 1000 } });
		expect((await fetch(`${server.httpUrl}/readyz`)).status).toBe(503);
		expect((await fetch(`${server.httpUrl}/livez`)).status).toBe(200);
	} finally {
		await server.close();
	}
});

function clientWith(key: string | undefined) {
	const sendKey: Interceptor = (next) => (request) => {
		if (key !== undefined) request.header.set("authorization", `Bearer ${key}`);
		return next(request);
	};
	return createClient(
		AuditService,
		createConnectTransport({ baseUrl: service.httpUrl, httpVersion: "1.1", interceptors: [sendKey] }),
	);
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
