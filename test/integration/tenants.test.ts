import { createHash } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { deriveKeys, rolePassword } from "../../src/auth/secret.ts";
import { createAuditClient } from "../../src/client/index.ts";
import { TenantService } from "../../src/gen/audit/v1/tenant_service_pb.ts";
import { eventMessage, openNatsClient, untilDrained, untilUp } from "../support/nats-client.ts";
import { startRpcService } from "../support/rpc-service.ts";
import { startOwnNats, testSecret } from "../support/services.ts";
import { rawCall, refusalOf, startTenantService, type TenantTestService } from "../support/tenant-service.ts";
import { anEvent } from "../support/write-path.ts";

/** How tenants are made, listed and renamed. Disabling has a file of its own. */

let service: TenantTestService;

beforeEach(async () => {
	service = await startTenantService();
});
afterEach(() => service.end());

describe("making a tenant", () => {
	test("is told in its log's first event, on behalf of the caller; again it changes nothing", async () => {
		const { tenants, id } = await service.as("operator", "all");
		const made = await tenants.createTenant({ id: "acme", name: "Acme, Inc." });
		expect(made).toMatchObject({ created: true, tenant: { id: "acme", name: "Acme, Inc." } });
		expect(made.tenant?.createdAt).toBeDefined();
		expect(made.tenant?.disabledAt).toBeUndefined();
		for (const name of ["Acme, Inc.", ""]) {
			expect(await tenants.createTenant({ id: "acme", name })).toMatchObject({ created: false, tenant: made.tenant });
		}
		expect(await refusalOf(tenants.createTenant({ id: "acme", name: "Other" }))).toBe(
			"already_exists TENANT_NAMED_OTHERWISE",
		);
		expect(await service.told("acme")).toEqual([
			expect.objectContaining({
				action: "audit.log.created",
				actor: "auditlog",
				onBehalfOf: [expect.objectContaining({ id, type: "ACTOR_TYPE_API_KEY" })],
				metadata: { hash_version: 1, made_by: "CreateTenant" },
			}),
		]);
	});

	test("over gRPC, without a name, is called as its id, and can be written to", async () => {
		const authorization = `Bearer ${service.key}`;
		const transport = createGrpcTransport({
			baseUrl: service.grpcUrl,
			interceptors: [
				(next) => (request) => {
					request.header.set("authorization", authorization);
					return next(request);
				},
			],
		});
		const client = createClient(TenantService, transport);
		expect(await client.createTenant({ id: "globex" })).toMatchObject({ created: true, tenant: { name: "globex" } });
		const events = createAuditClient({ url: service.httpUrl, key: service.key });
		expect(await refusalOf(events.writeEvent({ event: anEvent({ tenantId: "globex" }) }))).toBe("done");
	});

	test("twenty at once make it once, with one first event", async () => {
		const made = await Promise.all(
			Array.from({ length: 20 }, () => service.tenants.createTenant({ id: "acme", name: "Acme" })),
		);
		expect(made.filter(({ created }) => created)).toHaveLength(1);
		expect((await service.told("acme")).map(({ action }) => action)).toEqual(["audit.log.created"]);
	});

	test("an operator of some tenants makes those, and learns nothing of others", async () => {
		await service.tenants.createTenant({ id: "theirs" });
		const { key, tenants } = await service.as("operator", ["mine"]);
		expect(await tenants.createTenant({ id: "mine" })).toMatchObject({ created: true });
		const answers = await Promise.all(
			["theirs", "nobodys"].map((id) => rawCall(service, key, "CreateTenant", { id, name: id })),
		);
		expect(answers[0]).toContain("TENANT_NOT_FOUND");
		expect(answers[1]).toBe(answers[0]);
		const { rows } = await service.admin.query("SELECT id FROM audit.tenants ORDER BY slot");
		expect(rows).toEqual([{ id: "theirs" }, { id: "mine" }]);
	});

	test("is an operator's, and everything wrong with it is named", async () => {
		for (const role of ["writer", "reader", "exporter", "auditor", "tenant_admin"] as const) {
			const { tenants } = await service.as(role, ["acme"]);
			expect(await refusalOf(tenants.createTenant({ id: "acme" }))).toBe("permission_denied ROLE_NOT_PERMITTED");
		}
		const wrong = (id: string, name: string) => refusalOf(service.tenants.createTenant({ id, name }));
		expect(await wrong("a b", "\u0007")).toBe("invalid_argument INVALID_REQUEST id name");
		expect(await wrong("", "x".repeat(257))).toBe("invalid_argument INVALID_REQUEST id name");
		expect(await wrong("acme", " ")).toBe("invalid_argument INVALID_REQUEST name");
		expect(await wrong("a".repeat(128), "x".repeat(256))).toBe("done");
	});
});

describe("a tenant that nobody has made", () => {
	test("is refused at every door, also to a key that is bound to it", async () => {
		const { key } = await service.as("operator", ["unmade"]);
		const events = createAuditClient({ url: service.httpUrl, key });
		for (const call of [
			() => events.writeEvent({ event: anEvent({ tenantId: "" }) }),
			() => events.query({}),
			() => service.tenants.renameTenant({ id: "unmade", name: "x" }),
			() => service.tenants.disableTenant({ id: "unmade", reason: "x" }),
			() => service.tenants.enableTenant({ id: "unmade" }),
		]) {
			expect(await refusalOf(call())).toBe("not_found TENANT_NOT_FOUND");
		}
		const [letter] = await service.publish(eventMessage(anEvent({ tenantId: "unmade" })));
		expect(letter).toMatchObject({ tenantId: "unmade", reason: "TENANT_NOT_FOUND" });
		expect((await service.admin.query("SELECT FROM audit.tenants")).rowCount).toBe(0);
	});

	test("costs the service none of the few connections it writes by", async () => {
		const connections = async () => {
			const { rows } = await service.admin.query<{ pid: number }>(
				"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'audit_writer' ORDER BY pid",
			);
			return rows.map(({ pid }) => pid);
		};
		await service.makeTenants("acme");
		const before = await connections();
		// More calls than there can be connections.
		for (let i = 0; i < 5; i += 1) {
			expect(await refusalOf(service.tenants.renameTenant({ id: "nobody", name: "x" }))).toContain("TENANT_NOT_FOUND");
		}
		const kept = (await connections()).filter((pid) => before.includes(pid));
		expect(kept).not.toEqual([]);
	});

	test("where the first event may make it, the log says which way that came", async () => {
		const nats = await startOwnNats();
		const making = await startRpcService({ natsUrl: nats.url });
		try {
			const key = await making.createKey("writer", ["written"]);
			await createAuditClient({ url: making.httpUrl, key }).writeEvent({ event: anEvent({ tenantId: "written" }) });
			if (making.natsDoor) await untilUp(making.natsDoor);
			const client = await openNatsClient(nats.url);
			await client.publish([eventMessage(anEvent({ tenantId: "published" }))]);
			await untilDrained(client);
			await client.close();
			const reader = createAuditClient({ url: making.httpUrl, key: await making.createKey("operator", "all") });
			const firstOf = async (tenantId: string) =>
				(await reader.query({ tenantId })).events.find(({ action }) => action === "audit.log.created");
			expect(await firstOf("written")).toMatchObject({
				action: "audit.log.created",
				onBehalfOf: [{ id: key.split("_")[1] }],
				metadata: { made_by: "first write" },
			});
			expect(await firstOf("published")).toMatchObject({
				action: "audit.log.created",
				onBehalfOf: [],
				metadata: { made_by: "first message", subject: "audit.events.published" },
			});
		} finally {
			await making.end();
			await nats.stop();
		}
	});
});

describe("renaming", () => {
	beforeEach(async () => {
		await service.makeTenants("acme", "globex");
	});

	test("is an event with both names and who did it; again it is none", async () => {
		const { tenants, id } = await service.as("tenant_admin", ["acme"]);
		// The key is bound to one tenant, so that need not be named.
		expect(await tenants.renameTenant({ name: "Acme 2" })).toMatchObject({ changed: true, tenant: { name: "Acme 2" } });
		expect(await tenants.renameTenant({ id: "acme", name: "Acme 2" })).toMatchObject({ changed: false });
		expect((await service.told("acme")).slice(1)).toEqual([
			expect.objectContaining({
				action: "audit.tenant.renamed",
				actor: id,
				changes: { old_value: { name: "acme" }, new_value: { name: "Acme 2" }, changed_fields: ["name"] },
			}),
		]);
		expect(await tenants.listTenants({})).toMatchObject({ tenants: [{ id: "acme", name: "Acme 2" }] });
		expect(await service.tenants.createTenant({ id: "acme", name: "Acme 2" })).toMatchObject({ created: false });
	});

	test("a tenant admin cannot tell the tenant of others from one that nobody has, and changes neither", async () => {
		const { key } = await service.as("tenant_admin", ["acme"]);
		const [theirs, nobodys] = await Promise.all(
			["globex", "nobody"].map((id) => rawCall(service, key, "RenameTenant", { id, name: "Mine" })),
		);
		expect(theirs).toContain("TENANT_NOT_FOUND");
		expect(nobodys).toBe(theirs);
		expect(await service.told("globex")).toHaveLength(1);
	});

	test("needs a tenant and a name: everything wrong is named", async () => {
		expect(await refusalOf(service.tenants.renameTenant({}))).toBe("invalid_argument INVALID_REQUEST id name");
		expect(await refusalOf(service.tenants.renameTenant({ id: "acme", name: "\u009b" }))).toBe(
			"invalid_argument INVALID_REQUEST name",
		);
		const unknown = await rawCall(service, service.key, "RenameTenant", { id: "acme", title: "x", names: "y" });
		for (const field of ["title", "names"]) expect(unknown).toContain(field);
	});

	test("the history of a name stays in the database, and nobody changes it there", async () => {
		for (const name of ["One", "Two"]) await service.tenants.renameTenant({ id: "acme", name });
		const { rows } = await service.admin.query(
			"SELECT change_no, name FROM audit.tenant_changes WHERE tenant_id = 'acme' ORDER BY change_no",
		);
		expect(rows).toEqual([
			{ change_no: 1, name: "One" },
			{ change_no: 2, name: "Two" },
		]);
		await service.admin.query("SET ROLE audit_owner");
		for (const sql of [
			"UPDATE audit.tenant_changes SET name = 'x'",
			"DELETE FROM audit.tenant_changes",
			"TRUNCATE audit.tenant_changes",
		]) {
			await expect(service.admin.query(sql)).rejects.toThrow(/audit records are immutable/);
		}
		await service.admin.query("RESET ROLE");
	});
});

describe("a list", () => {
	test("has every tenant once, in the order they were made, also those made between its pages", async () => {
		const ids = Array.from({ length: 7 }, (_, i) => `tenant-${7 - i}`);
		for (const id of ids) await service.tenants.createTenant({ id });
		const listed: string[] = [];
		let pageToken = "";
		for (let page = 0; page === 0 || pageToken !== ""; page += 1) {
			const answer = await service.tenants.listTenants({ pageSize: 2, pageToken });
			listed.push(...answer.tenants.map(({ id }) => id));
			pageToken = answer.nextPageToken;
			if (page < 3) {
				ids.push(`a-late-${page}`);
				await service.tenants.createTenant({ id: `a-late-${page}` });
			}
		}
		expect(listed).toEqual(ids);
	});

	test("shows a key its own tenants, in pages that are good for nobody else", async () => {
		await service.makeTenants("acme", "globex", "initech");
		const admin = await service.as("tenant_admin", ["acme", "initech", "unmade"]);
		const listed = await admin.tenants.listTenants({});
		expect(listed.tenants.map(({ id }) => id)).toEqual(["acme", "initech"]);
		expect(listed.nextPageToken).toBe("");
		const { nextPageToken: pageToken } = await admin.tenants.listTenants({ pageSize: 1 });
		expect(await admin.tenants.listTenants({ pageToken })).toMatchObject({ tenants: [{ id: "initech" }] });
		const other = await service.as("tenant_admin", ["acme", "globex"]);
		for (const { tenants } of [other, service]) {
			expect(await refusalOf(tenants.listTenants({ pageToken }))).toBe(
				"invalid_argument INVALID_PAGE_TOKEN page_token",
			);
		}
		expect(await refusalOf(service.tenants.listTenants({ pageSize: -1 }))).toBe(
			"invalid_argument INVALID_QUERY page_size",
		);
	});

	test("has page tokens that do not tell how many tenants there are", async () => {
		const { tenants } = await service.as("tenant_admin", ["acme", "globex"]);
		await service.makeTenants("one", "two", "three", "acme", "globex");
		const { tenants: listed, nextPageToken } = await tenants.listTenants({ pageSize: 1 });
		const body = Buffer.from(nextPageToken, "base64url");
		// Besides the time of issue there is what the caller has seen: when the tenant was made, and which it is.
		const { seconds, nanos } = listed[0]?.createdAt ?? { seconds: 0n, nanos: 0 };
		expect(body.readBigInt64BE(1)).toBe(seconds * 1_000_000n + BigInt(nanos / 1_000));
		expect(body.toString("hex", 9, 25)).toBe(createHash("sha256").update("acme").digest("hex").slice(0, 32));
	});

	test("is none for the reader's role itself until it is said of which tenants", async () => {
		await service.makeTenants("acme", "globex");
		await service.tenants.renameTenant({ id: "acme", name: "Acme" });
		const url = new URL(service.database.url);
		url.username = "audit_reader";
		url.password = rolePassword(deriveKeys(testSecret()), "audit_reader");
		const role = new Client({ connectionString: url.href });
		await role.connect();
		const seenWith = async (scope: string) => {
			await role.query("SELECT set_config('audit.tenants_of', $1, false)", [scope]);
			const { rows } = await role.query(
				"SELECT id FROM audit.tenants UNION ALL SELECT tenant_id FROM audit.tenant_changes",
			);
			return rows.map(({ id }) => id);
		};
		expect(await seenWith("")).toEqual([]);
		expect(await seenWith("acme,nobody")).toEqual(["acme", "acme"]);
		expect(await seenWith("globex")).toEqual(["globex"]);
		expect(await seenWith("*")).toEqual(["acme", "globex", "acme"]);
		await role.query("SET default_transaction_read_only = off");
		for (const sql of [
			"SELECT * FROM audit.change_tenant('acme', 'x', NULL)",
			"INSERT INTO audit.tenant_changes VALUES ('acme', 2, 'x')",
		]) {
			await expect(role.query(sql)).rejects.toMatchObject({ code: "42501" });
		}
		await role.end();
	});

	test("is none for whoever neither administers nor operates", async () => {
		for (const role of ["writer", "reader", "exporter", "auditor"] as const) {
			const { tenants } = await service.as(role, "all");
			expect(await refusalOf(tenants.listTenants({}))).toBe("permission_denied ROLE_NOT_PERMITTED");
			expect(await refusalOf(tenants.renameTenant({ id: "acme", name: "x" }))).toBe(
				"permission_denied ROLE_NOT_PERMITTED",
			);
		}
	});
});
