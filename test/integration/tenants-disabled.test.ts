import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { deriveKeys } from "../../src/auth/secret.ts";
import { createAccessClient, createAuditClient, createTenantClient } from "../../src/client/index.ts";
import { loadConfig } from "../../src/config.ts";
import type { TenantId } from "../../src/event/event.ts";
import { Role } from "../../src/gen/audit/v1/access_service_pb.ts";
import { AuditService, BatchWriteMode, BatchWriteRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { RedriveOutcome } from "../../src/gen/audit/v1/dead_letter_service_pb.ts";
import { createLogger } from "../../src/logger.ts";
import { startServer } from "../../src/server.ts";
import { openDatabase } from "../../src/storage/db.ts";
import { DisabledTenants } from "../../src/storage/disabled-tenants.ts";
import { eventMessage } from "../support/nats-client.ts";
import { startPostgresProxy } from "../support/postgres-proxy.ts";
import { runCli } from "../support/run-cli.ts";
import { testSecret, waitFor } from "../support/services.ts";
import { rawCall, refusalOf, startTenantService, type TenantTestService } from "../support/tenant-service.ts";
import { anEvent } from "../support/write-path.ts";

/** What disabling a tenant does, and what it does not. */

/** What the API promises: by then every replica knows. */
const KNOWN_WITHIN_MS = 30_000;
const DISABLED = "permission_denied TENANT_DISABLED";

let service: TenantTestService;
let writer: string;
let reader: string;

beforeEach(async () => {
	service = await startTenantService();
	await service.makeTenants("acme", "globex");
	writer = (await service.as("writer", ["acme", "globex"])).key;
	reader = (await service.as("reader", ["acme", "globex"])).key;
});
afterEach(() => service.end());

const client = (key: string) => createAuditClient({ url: service.httpUrl, key, attempts: 1 });
const write = (key: string, tenantId = "acme") => refusalOf(client(key).writeEvent({ event: anEvent({ tenantId }) }));
const read = (key: string, tenantId = "acme") => refusalOf(client(key).query({ tenantId }));
const disable = (id = "acme") => service.tenants.disableTenant({ id, reason: "contract ended" });
const enable = (id = "acme") => service.tenants.enableTenant({ id, reason: "contract renewed" });

async function rest(key: string, method: string, path: string, body?: object): Promise<[number, string]> {
	const response = await fetch(`${service.httpUrl}${path}`, {
		method,
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
		...(body && { body: JSON.stringify(body) }),
	});
	return [response.status, await response.text()];
}

async function stored(tenantId: string): Promise<string[]> {
	const { rows } = await service.admin.query<{ action: string }>(
		"SELECT action FROM audit.events WHERE tenant_id = $1 ORDER BY batch_id, ord",
		[tenantId],
	);
	return rows.map(({ action }) => action);
}

describe("a disabled tenant", () => {
	test("gets no new key but by an operator; those it has are listed and revoked as before", async () => {
		await disable();
		const keysOf = async (role: "tenant_admin" | "operator") =>
			createAccessClient({ url: service.httpUrl, key: (await service.as(role, ["acme", "globex"])).key, attempts: 1 });
		const make = { name: "new", role: Role.READER };
		const admin = await keysOf("tenant_admin");
		for (const tenantIds of [["acme"], ["globex", "acme"]]) {
			expect(await refusalOf(admin.createApiKey({ ...make, tenantIds }))).toBe(DISABLED);
		}
		expect(await refusalOf(admin.createApiKey({ ...make, tenantIds: ["globex"] }))).toBe("done");
		const { key } = await (await keysOf("operator")).createApiKey({ ...make, tenantIds: ["acme"] });
		expect((await admin.listApiKeys({ tenantId: "acme" })).keys).toContainEqual(key);
		expect(await admin.revokeApiKey({ id: key?.id ?? "" })).toMatchObject({ changed: true });
	});

	test("takes no event by any RPC or REST, at once, from nobody; the others of a batch are stored", async () => {
		const grpc = createClient(
			AuditService,
			createGrpcTransport({
				baseUrl: service.grpcUrl,
				interceptors: [
					(next) => (request) => {
						request.header.set("authorization", `Bearer ${writer}`);
						return next(request);
					},
				],
			}),
		);
		const { tenant, changed } = await disable();
		expect({ changed, id: tenant?.id }).toEqual({ changed: true, id: "acme" });
		expect(tenant?.disabledAt).toBeDefined();
		const events = [anEvent(), anEvent({ tenantId: "globex" })];
		expect(await write(writer)).toBe(DISABLED);
		expect(await write(service.key)).toBe(DISABLED);
		expect(await refusalOf(grpc.writeEvent({ event: anEvent() }))).toBe(DISABLED);
		expect(await refusalOf(client(writer).batchWrite({ events, mode: BatchWriteMode.ATOMIC }))).toBe(DISABLED);
		const [status, text] = await rest(writer, "POST", "/v1/audit/events", {
			tenant_id: "acme",
			action: "user.login",
			actor: { id: "jane" },
		});
		expect(status).toBe(403);
		expect(text).toContain("TENANT_DISABLED");
		const { results } = await client(writer).batchWrite({ events });
		expect(results.map(({ result }) => (result.case === "error" ? result.value.reason : result.case))).toEqual([
			"TENANT_DISABLED",
			"written",
		]);
		expect(await stored("acme")).toEqual(["audit.log.created", "audit.tenant.disabled"]);
		expect(await stored("globex")).toEqual(["audit.log.created", "user.login"]);
	});

	test("is read by operators alone, and does not exist for whoever may not see it", async () => {
		const { eventId: id } = await client(writer).writeEvent({ event: anEvent() });
		await disable();
		for (const role of ["reader", "exporter", "auditor", "tenant_admin"] as const) {
			const { key, tenants } = await service.as(role, ["acme", "globex"]);
			expect(await read(key)).toBe(DISABLED);
			expect(await refusalOf(client(key).getEvent({ tenantId: "acme", id }))).toBe(DISABLED);
			expect((await rest(key, "GET", "/v1/audit/events?tenant_id=acme"))[0]).toBe(403);
			expect((await rest(key, "GET", `/v1/audit/events/${id}?tenant_id=acme`))[0]).toBe(403);
			expect(await read(key, "globex")).toBe("done");
			if (role === "tenant_admin") {
				expect(await refusalOf(tenants.renameTenant({ id: "acme", name: "x" }))).toBe(DISABLED);
				const { tenants: listed } = await tenants.listTenants({});
				expect(listed.map((tenant) => [tenant.id, tenant.disabledAt !== undefined])).toEqual([
					["acme", true],
					["globex", false],
				]);
			}
		}
		expect(await read(service.key)).toBe("done");
		expect(await refusalOf(client(service.key).getEvent({ tenantId: "acme", id }))).toBe("done");
		expect(await refusalOf(service.tenants.renameTenant({ id: "acme", name: "Acme" }))).toBe("done");
		const { key: others } = await service.as("operator", ["globex"]);
		for (const call of [write, read]) expect(await call(others)).toBe("not_found TENANT_NOT_FOUND");
		const events = [anEvent(), anEvent({ tenantId: "globex" })];
		const { results } = await client(others).batchWrite({ events });
		expect(results[0]?.result).toMatchObject({ case: "error", value: { reason: "TENANT_NOT_FOUND" } });
	});

	test("has keys that its admin can take away and replace, which the log tells", async () => {
		const { id } = await service.as("reader", ["acme"]);
		const access = createAccessClient({ url: service.httpUrl, key: (await service.as("tenant_admin", ["acme"])).key });
		await disable();
		const { key } = await access.rotateApiKey({ id });
		expect(await access.revokeApiKey({ id, reason: "leaked" })).toMatchObject({ changed: true });
		const { keys } = await access.listApiKeys({ includeInactive: false });
		expect(keys.map((each) => each.id)).toContain(key?.id);
		expect(keys.map((each) => each.id)).not.toContain(id);
		expect((await stored("acme")).slice(2)).toEqual(["audit.key.rotated", "audit.key.revoked"]);
	});

	test("loses nothing that comes from NATS: dead letters, redriven once it is enabled, stored once", async () => {
		await disable();
		const batch = create(BatchWriteRequestSchema, { events: [anEvent(), anEvent({ tenantId: "globex" })] });
		const letters = await service.publish(
			eventMessage(anEvent()),
			{ subject: "audit.events", data: toBinary(BatchWriteRequestSchema, batch), headers: { "Audit-Type": "batch" } },
			eventMessage(anEvent({ tenantId: "globex" })),
		);
		expect(letters.map(({ tenantId, reason }) => [tenantId, reason])).toEqual([
			["acme", "TENANT_DISABLED"],
			["acme", "TENANT_DISABLED"],
		]);
		expect(await stored("globex")).toEqual(["audit.log.created", "user.login", "user.login"]);
		const redrive = async (dryRun = false) => {
			const filter = { tenantId: "acme", reasons: ["TENANT_DISABLED"] };
			const { results } = await service.operator.redriveDeadLetters({ filter, dryRun });
			return results.map(({ outcome, reason }) => (reason === "" ? outcome : reason));
		};
		expect(await redrive()).toEqual(["TENANT_DISABLED", "TENANT_DISABLED"]);
		expect(await redrive(true)).toEqual(["TENANT_DISABLED", "TENANT_DISABLED"]);
		await enable();
		expect(await redrive()).toEqual([RedriveOutcome.STORED, RedriveOutcome.STORED]);
		expect(await redrive()).toEqual([]);
		const { results } = await service.operator.redriveDeadLetters({ ids: letters.map(({ id }) => id) });
		expect(results.map(({ outcome }) => outcome)).toEqual([RedriveOutcome.DUPLICATE, RedriveOutcome.DUPLICATE]);
		expect((await stored("acme")).filter((action) => action === "user.login")).toHaveLength(2);
	});

	test("is open again once it is enabled, and its log tells of all of it", async () => {
		const { id, tenants } = await service.as("operator", ["acme"]);
		await tenants.disableTenant({ id: "acme", reason: "contract ended" });
		await tenants.renameTenant({ id: "acme", name: "Acme (left)" });
		const { tenant, changed } = await tenants.enableTenant({ id: "acme" });
		expect({ changed, name: tenant?.name, disabledAt: tenant?.disabledAt }).toEqual({
			changed: true,
			name: "Acme (left)",
			disabledAt: undefined,
		});
		expect(await tenants.enableTenant({ id: "acme" })).toMatchObject({ changed: false });
		expect([await write(writer), await read(reader)]).toEqual(["done", "done"]);
		expect((await service.told("acme")).slice(1).map((told) => [told.action, told.actor, told.reason])).toEqual([
			["audit.tenant.disabled", id, "contract ended"],
			["audit.tenant.renamed", id, null],
			["audit.tenant.enabled", id, null],
		]);
	});

	test("disabled by twenty at once is disabled once, with one event", async () => {
		// Nobody commits before another is in the middle of it, too.
		await service.admin.query("SELECT pg_advisory_lock(7301, 0)");
		const calls = Array.from({ length: 20 }, () => disable());
		try {
			await waitFor(async () => {
				const { rows } = await service.admin.query<{ waiting: number }>(
					`SELECT count(*)::int AS waiting FROM pg_stat_activity
					 WHERE datname = current_database() AND usename = 'audit_writer' AND wait_event_type = 'Lock'`,
				);
				return (rows[0]?.waiting ?? 0) >= 2;
			});
		} finally {
			await service.admin.query("SELECT pg_advisory_unlock(7301, 0)");
		}
		const answers = await Promise.all(calls);
		expect(answers.filter(({ changed }) => changed)).toHaveLength(1);
		expect(new Set(answers.map(({ tenant }) => tenant?.disabledAt?.nanos)).size).toBe(1);
		expect(await stored("acme")).toEqual(["audit.log.created", "audit.tenant.disabled"]);
	});
});

describe("disabling", () => {
	test("is an operator's: a tenant admin neither disables its tenant nor enables it", async () => {
		const { tenants } = await service.as("tenant_admin", ["acme"]);
		const notPermitted = "permission_denied ROLE_NOT_PERMITTED";
		expect(await refusalOf(tenants.disableTenant({ id: "acme", reason: "x" }))).toBe(notPermitted);
		await disable();
		expect(await refusalOf(tenants.enableTenant({ id: "acme" }))).toBe(notPermitted);
		expect(await write(writer)).toBe(DISABLED);
	});

	test("names everything wrong, and tells nobody of tenants that are not theirs", async () => {
		const wrong = (id: string, reason: string) => refusalOf(service.tenants.disableTenant({ id, reason }));
		expect(await wrong("", " ")).toBe("invalid_argument INVALID_REQUEST id reason");
		expect(await wrong("a b", "x".repeat(4097))).toBe("invalid_argument INVALID_REQUEST id reason");
		expect(await refusalOf(service.tenants.enableTenant({ id: "acme", reason: "\0" }))).toBe(
			"invalid_argument INVALID_REQUEST reason",
		);
		const { key } = await service.as("operator", ["globex"]);
		for (const rpc of ["DisableTenant", "EnableTenant"]) {
			const [theirs, nobodys] = await Promise.all(
				["acme", "nobody"].map((id) => rawCall(service, key, rpc, { id, reason: "x" })),
			);
			expect(theirs).toContain("TENANT_NOT_FOUND");
			expect(nobodys).toBe(theirs);
		}
		expect(await stored("acme")).toEqual(["audit.log.created"]);
	});

	test("at one replica holds at every door of another within half a minute, and so does enabling", async () => {
		const config = loadConfig({
			DATABASE_URL: service.database.url,
			AUDIT_SECRET: testSecret(),
			HTTP_PORT: "0",
			GRPC_PORT: "0",
			AUDIT_DRAIN_NOTICE_MS: "0",
			AUDIT_DRAIN_MS: "500",
		});
		const other = await startServer(config, createLogger("silent"));
		try {
			const atOther = createTenantClient({ url: other.httpUrl, key: service.key });
			const known = { deadlineMs: KNOWN_WITHIN_MS, intervalMs: 250 };
			// The replica that is to learn of it knows, before, that nobody is disabled.
			expect([await write(writer), await read(reader)]).toEqual(["done", "done"]);
			await atOther.disableTenant({ id: "acme", reason: "there" });
			await waitFor(async () => (await write(writer)) === DISABLED, { ...known, what: "the refusal of writes" });
			expect(await read(reader)).toBe(DISABLED);
			const letters = await service.publish(eventMessage(anEvent()));
			expect(letters.map(({ reason }) => reason)).toEqual(["TENANT_DISABLED"]);
			await atOther.enableTenant({ id: "acme" });
			await waitFor(async () => (await write(writer)) === "done", { ...known, what: "the opening" });
			expect(await read(reader)).toBe("done");
		} finally {
			await other.close();
		}
	}, 120_000);

	test("is for whoever has the database at hand, too, or through the service by the command line", async () => {
		const straight = { DATABASE_URL: service.database.url, AUDIT_SECRET: testSecret() };
		const through = { AUDIT_URL: service.httpUrl, AUDIT_KEY: service.key };
		const cli = async (env: Record<string, string>, ...args: string[]) => {
			const { exitCode, stdout, stderr } = await runCli(["tenant", ...args], env);
			return [exitCode, stdout || (stderr.split("\n")[0] ?? "")] as const;
		};
		const holds = "it holds in every replica within 30 seconds\n";
		expect(await cli(straight, "disable", "acme", "--reason", "by hand")).toEqual([0, `acme is disabled; ${holds}`]);
		expect(await cli(straight, "disable", "acme", "--reason", "again")).toEqual([
			0,
			"acme is disabled; nothing was changed\n",
		]);
		expect(await cli(through, "rename", "acme", "Acme\u202e 2")).toEqual([0, "acme is called Acme\ufffd 2 now\n"]);
		expect(await cli(through, "rename", "acme", "Acme 3")).toEqual([0, "acme is called Acme 3 now\n"]);
		expect(await cli(through, "create", "acme", "--name", "Other")).toEqual([0, "acme exists; nothing was changed\n"]);
		expect(await cli({ ...straight, ...through }, "enable", "acme")).toEqual([0, `acme is enabled; ${holds}`]);
		for (const env of [straight, through]) {
			expect(await cli(env, "rename", "nobody", "x")).toEqual([1, "error: no such tenant for this key (not_found)"]);
			expect(await cli(env, "rename", "acme", "\u0007")).toEqual([
				2,
				"error: the name must not contain control characters",
			]);
			expect(await cli(env, "disable", "acme", "--reason", "")).toEqual([2, "error: --reason must not be empty"]);
			const [, csv] = await cli(env, "list", "-o", "csv");
			expect(csv).toMatch(/^id,name,created_at,disabled_at\r\nacme,Acme 3,\S{27},\r\nglobex,globex,\S{27},\r\n$/);
			const [, json] = await cli(env, "list", "-o", "json");
			expect(JSON.parse(json)).toEqual([
				{ id: "acme", name: "Acme 3", created_at: expect.stringMatching(/^\S{26}Z$/) },
				{ id: "globex", name: "globex", created_at: expect.stringMatching(/^\S{26}Z$/) },
			]);
		}
		const id = service.key.split("_")[1];
		expect((await service.told("acme")).slice(1).map(({ action, actor }) => [action, actor])).toEqual([
			["audit.tenant.disabled", "cli"],
			["audit.tenant.renamed", id],
			["audit.tenant.renamed", id],
			["audit.tenant.enabled", id],
		]);
	}, 120_000);
});

test("a replica that never knew which tenants are disabled lets nobody in; one that knew goes on with that", async () => {
	const open = (databaseUrl: string) =>
		openDatabase({ databaseUrl, keys: deriveKeys(testSecret()), logger: createLogger("silent") });
	const away = open("postgres://127.0.0.1:9/none");
	await expect(new DisabledTenants(away).has("acme" as TenantId)).rejects.toMatchObject({ code: "unavailable" });
	await away.close();
	await disable();
	const proxy = await startPostgresProxy(service.database.url);
	const db = open(proxy.url);
	const disabled = new DisabledTenants(db);
	expect(await disabled.has("acme" as TenantId)).toBe(true);
	await proxy.close();
	await expect(db.keys.query("SELECT")).rejects.toThrow();
	await disabled.refresh();
	expect(await disabled.has("acme" as TenantId)).toBe(true);
	await db.close();
});
