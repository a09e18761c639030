import { createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditService, toAuditError } from "../../src/client/index.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { testSecret, waitFor } from "../support/services.ts";

let service: RpcService;
let key: string;

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

const sendKey: Interceptor = (next) => (request) => {
	request.header.set("authorization", `Bearer ${key}`);
	return next(request);
};

test.each([
	["Connect", () => createConnectTransport({ baseUrl: service.httpUrl, httpVersion: "1.1", interceptors: [sendKey] })],
	["gRPC", () => createGrpcTransport({ baseUrl: service.grpcUrl, interceptors: [sendKey] })],
	["gRPC-Web", () => createGrpcWebTransport({ baseUrl: service.httpUrl, httpVersion: "2", interceptors: [sendKey] })],
])("over %s a write that takes too long ends in time, and its repetition finds it stored", async (name, transport) => {
	const client = createClient(AuditService, transport());
	const id = `01931b8f-0000-7000-8000-${Buffer.from(name.slice(0, 6).padEnd(6)).toString("hex")}`;
	const event = { id, tenantId: "acme", action: "user.login", actor: { id: "jane" } };
	// The first event makes the tenant.
	await client.writeEvent({ event: { ...event, id: "" } });

	const admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	await admin.query("BEGIN");
	await admin.query("LOCK TABLE audit.manifests IN ACCESS EXCLUSIVE MODE");
	const header: Record<string, string> =
		name === "Connect" ? { "connect-timeout-ms": "2000" } : { "grpc-timeout": "2000m" };
	// Sent by hand: a client that knows of the deadline ends the call itself.
	const write = client.writeEvent({ event }, { headers: header }).catch(toAuditError);
	const waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'audit.manifests'::regclass";
	await waitFor(async () => ((await admin.query(waiting)).rowCount ?? 0) > 0, { what: "the write that waits" });
	const error = await write;
	expect(error).toMatchObject({ code: "deadline_exceeded", reason: "DEADLINE_EXCEEDED" });
	await admin.query("ROLLBACK");
	await admin.end();

	const { duplicate } = await client.writeEvent({ event });
	expect(duplicate).toBe(true);
});
