import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { demoApiKey, formatApiKey, newApiKey, parseApiKey } from "../../src/auth/api-keys.ts";
import { COMMAND_LINE, KeyChanges } from "../../src/auth/key-changes.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import {
	type AccessClient,
	type AuditError,
	createAccessClient,
	createAuditClient,
	toAuditError,
} from "../../src/client/index.ts";
import { seedDemoTenants } from "../../src/dev/demo-tenants.ts";
import { AccessService, type ApiKey, Role } from "../../src/gen/audit/v1/access_service_pb.ts";
import { ActorType, type Event, Unit } from "../../src/gen/audit/v1/event_pb.ts";
import { createLogger } from "../../src/logger.ts";
import { Partitions } from "../../src/storage/partitions.ts";
import { ServiceLog } from "../../src/storage/service-log.ts";
import { checkTrail } from "../support/check-trail.ts";
import { createKey, type RpcService, startRpcService } from "../support/rpc-service.ts";
import { testSecret, waitFor } from "../support/services.ts";
import { openWritePath } from "../support/write-path.ts";

let service: RpcService;
let admin: Client;
/** An operator of all tenants, and what he calls with over each protocol. */
let operatorKey: string;
let operator: AccessClient;
/** Tenant admins. */
let ofAcme: AccessClient;
let ofGlobex: AccessClient;
let ofBoth: AccessClient;

beforeAll(async () => {
	service = await startRpcService();
	admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	operatorKey = await service.createKey("operator", "all");
	operator = accessWith(operatorKey);
	const events = createAuditClient({ url: service.httpUrl, key: operatorKey });
	for (const tenantId of ["acme", "globex"]) {
		await events.writeEvent({ event: { tenantId, action: "user.login", actor: { id: "jane" } } });
	}
	ofAcme = accessWith(await service.createKey("tenant_admin", ["acme"]));
	ofGlobex = accessWith(await service.createKey("tenant_admin", ["globex"]));
	ofBoth = accessWith(await service.createKey("tenant_admin", ["acme", "globex"]));
});

afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await admin.end();
	await service.end();
});

function accessWith(key: string): AccessClient {
	return createAccessClient({ url: service.httpUrl, key, attempts: 1 });
}

function grpcWith(key: string): AccessClient {
	const sendKey: Interceptor = (next) => (request) => {
		request.header.set("authorization", `Bearer ${key}`);
		return next(request);
	};
	return createClient(AccessService, createGrpcTransport({ baseUrl: service.grpcUrl, interceptors: [sendKey] }));
}

async function refusal(call: Promise<unknown>): Promise<AuditError> {
	return call.then(
		() => {
			throw new Error("it was not refused");
		},
		(error: unknown) => toAuditError(error),
	);
}

/** The events about a key in a tenant's log, oldest first. */
async function told(tenantId: string, keyId: string): Promise<Event[]> {
	const client = createAuditClient({ url: service.httpUrl, key: operatorKey });
	const { events } = await client.query({ tenantId, resourceType: "api_key", resourceId: keyId, order: 2 });
	return events;
}

async function statusWith(key: string): Promise<number> {
	const url = `${service.httpUrl}/v1/audit/events?tenant_id=acme`;
	return (await fetch(url, { headers: { "x-api-key": key } })).status;
}

const reader = (init: object = {}) => ({ name: "a reader", role: Role.READER, tenantIds: ["acme"], ...init });

describe.each([
	["Connect", (key: string) => accessWith(key)],
	["gRPC", (key: string) => grpcWith(key)],
])("over %s", (_, clientWith) => {
	test("a key is made, listed, rotated and revoked, and works as long as it should", async () => {
		const access = clientWith(operatorKey);
		const { key, secret } = await access.createApiKey(reader({ maskedUnits: [Unit.ACTOR] }));
		expect(key).toMatchObject({ name: "a reader", role: Role.READER, tenantIds: ["acme"], allTenants: false });
		expect(key?.id).toBe(parseApiKey(secret)?.id);
		expect(key?.identity).toBe(key?.id);
		expect(await statusWith(secret)).toBe(200);
		const listed = await access.listApiKeys({ tenantId: "acme" });
		expect(listed.keys).toContainEqual(key);

		const rotated = await access.rotateApiKey({ id: key?.id ?? "", overlap: { seconds: 60n } });
		expect(rotated.key).toMatchObject({ name: "a reader", role: Role.READER, maskedUnits: [Unit.ACTOR] });
		expect(rotated.key?.identity).toBe(key?.id);
		expect(rotated.replaced.map(({ id }) => id)).toEqual([key?.id]);
		expect(Number(rotated.replaced[0]?.expiresAt?.seconds)).toBeGreaterThan(Date.now() / 1000);
		for (const each of [secret, rotated.secret]) expect(await statusWith(each)).toBe(200);

		const { changed, key: revoked } = await access.revokeApiKey({ id: rotated.key?.id ?? "", reason: "OPS-7" });
		expect(changed).toBe(true);
		expect(revoked?.revokedAt).toBeDefined();
		expect(await access.revokeApiKey({ id: rotated.key?.id ?? "" })).toMatchObject({ changed: false, key: revoked });
		const ids = async (includeInactive: boolean) =>
			(await access.listApiKeys({ includeInactive })).keys.map(({ id }) => id);
		expect(await ids(false)).not.toContain(revoked?.id);
		expect(await ids(true)).toContain(revoked?.id);
	});

	test("everything wrong with a request is named", async () => {
		const error = await refusal(clientWith(operatorKey).createApiKey({ allTenants: true, tenantIds: ["a b"] }));
		expect([error.code, error.violations.map(({ field }) => field)]).toEqual([
			"invalid_argument",
			["name", "role", "tenant_ids[0]", "all_tenants"],
		]);
	});
});

describe("what a tenant admin sees and may", () => {
	test("keys of others do not exist: the answer is that for ids nobody has, to the letter", async () => {
		const [own, both, all] = await Promise.all([
			ofGlobex.createApiKey({ name: "own", role: Role.WRITER }),
			operator.createApiKey(reader({ tenantIds: ["acme", "globex"] })),
			operator.createApiKey({ name: "all", role: Role.READER, allTenants: true }),
		]);
		const ids = (await ofGlobex.listApiKeys({})).keys.map(({ id }) => id);
		expect(ids).toContain(own.key?.id);
		const nobodys = await refusal(ofGlobex.revokeApiKey({ id: "0".repeat(12) }));
		expect([nobodys.code, nobodys.reason]).toEqual(["not_found", "KEY_NOT_FOUND"]);
		for (const { key } of [both, all]) {
			expect(ids).not.toContain(key?.id);
			for (const call of [
				() => ofGlobex.revokeApiKey({ id: key?.id ?? "" }),
				() => ofGlobex.rotateApiKey({ id: key?.id ?? "" }),
			]) {
				expect(await refusal(call())).toMatchObject({
					code: "not_found",
					message: nobodys.message,
					reason: nobodys.reason,
				});
			}
		}
		expect((await ofBoth.listApiKeys({})).keys.map(({ id }) => id)).toEqual(
			expect.arrayContaining([own.key?.id, both.key?.id]),
		);
	});

	test("who is refused a key of others leaves no trace on its row, which would cost time that tells of it", async () => {
		const { key } = await operator.createApiKey(reader({ tenantIds: ["acme"] }));
		const id = key?.id ?? "";
		// A row that was locked says by whom.
		const locker = async () => (await admin.query("SELECT xmax::text FROM audit.api_keys WHERE id = $1", [id])).rows;
		const before = await locker();
		expect((await refusal(ofGlobex.revokeApiKey({ id }))).code).toBe("not_found");
		expect((await refusal(ofGlobex.rotateApiKey({ id }))).code).toBe("not_found");
		expect(await locker()).toEqual(before);
	});

	test("keys that may do more than it are neither made nor touched", async () => {
		const { key } = await operator.createApiKey({ name: "op", role: Role.OPERATOR, tenantIds: ["acme"] });
		for (const call of [
			() => ofAcme.createApiKey({ name: "op", role: Role.OPERATOR, tenantIds: ["acme"] }),
			() => ofAcme.createApiKey({ name: "all", role: Role.READER, allTenants: true }),
			() => ofAcme.revokeApiKey({ id: key?.id ?? "" }),
			() => ofAcme.rotateApiKey({ id: key?.id ?? "" }),
		]) {
			expect(await refusal(call())).toMatchObject({ code: "permission_denied", reason: "GRANT_NOT_PERMITTED" });
		}
		const masked = accessWith(
			await createKey(service.database.url, "tenant_admin", ["acme"], { maskedUnits: ["actor"] }),
		);
		expect(await refusal(masked.createApiKey(reader()))).toMatchObject({ code: "permission_denied" });
		expect((await masked.createApiKey(reader({ maskedUnits: [Unit.ACTOR] }))).key?.maskedUnits).toEqual([Unit.ACTOR]);
	});

	test("its own end is the end of what it gives: no key that deals with keys works longer", async () => {
		const end = BigInt(Math.floor(Date.now() / 1000) + 3_600);
		const until = (seconds: bigint) => ({ expiresAt: { seconds, nanos: 0 } });
		const admin = { name: "an admin", role: Role.TENANT_ADMIN, tenantIds: ["acme"] };
		const made = await operator.createApiKey({ ...admin, ...until(end) });
		const id = made.key?.id ?? "";
		const guest = accessWith(made.secret);
		for (const call of [
			() => guest.createApiKey(admin),
			() => guest.createApiKey({ ...admin, ...until(end + 1n) }),
			() => guest.rotateApiKey({ id }),
			() => guest.rotateApiKey({ id, ...until(end + 1n) }),
		]) {
			expect(await refusal(call())).toMatchObject({ code: "permission_denied", reason: "GRANT_NOT_PERMITTED" });
		}
		expect((await guest.createApiKey({ ...admin, ...until(end) })).key?.expiresAt?.seconds).toBe(end);
		expect((await guest.rotateApiKey({ id, ...until(end) })).key?.expiresAt?.seconds).toBe(end);
		// A backend's key must not stop working because of who made it.
		expect((await guest.createApiKey({ name: "backend", role: Role.WRITER })).key?.expiresAt).toBeUndefined();
		// Nor is a key that was rotated good for more than its overlap.
		const old = await operator.createApiKey(admin);
		const next = await operator.rotateApiKey({ id: old.key?.id ?? "" });
		await operator.revokeApiKey({ id: next.key?.id ?? "" });
		expect(await refusal(accessWith(old.secret).rotateApiKey({ id: old.key?.id ?? "" }))).toMatchObject({
			reason: "GRANT_NOT_PERMITTED",
		});
	});

	test("a tenant of others and one that nobody has are the same to it, for an operator too", async () => {
		const texts = await Promise.all(
			[
				ofAcme.createApiKey(reader({ tenantIds: ["globex"] })),
				ofAcme.createApiKey(reader({ tenantIds: ["acme", "nobody"] })),
				ofAcme.listApiKeys({ tenantId: "globex" }),
				ofAcme.listApiKeys({ tenantId: "nobody" }),
				operator.createApiKey(reader({ tenantIds: ["nobody"] })),
				operator.listApiKeys({ tenantId: "nobody" }),
			].map(async (call) => {
				const { code, message, reason } = await refusal(call);
				return `${code} ${reason} ${message}`;
			}),
		);
		expect(new Set(texts)).toEqual(new Set(["not_found TENANT_NOT_FOUND no such tenant for this key"]));
	});
});

describe("what is told", () => {
	test("each change is one event in the log of each tenant the key names, and none learns the others", async () => {
		const { key } = await operator.createApiKey(reader({ tenantIds: ["globex", "acme"], maskedUnits: [Unit.REASON] }));
		const id = key?.id ?? "";
		const { key: next } = await operator.rotateApiKey({ id });
		await operator.revokeApiKey({ id, reason: "left the company" });
		await operator.revokeApiKey({ id, reason: "again" });
		for (const tenantId of ["acme", "globex"]) {
			const events = await told(tenantId, id);
			expect(events.map(({ action }) => action)).toEqual([
				"audit.key.created",
				"audit.key.rotated",
				"audit.key.revoked",
			]);
			const [created, rotated, revoked] = events;
			const [actor] = [operatorKey.split("_")[1]];
			for (const event of events) {
				expect(event.actor).toMatchObject({ type: ActorType.API_KEY, id: actor });
				expect(JSON.stringify(event.metadata)).not.toMatch(/acme|globex/);
				expect(event.metadata).toMatchObject({ role: "reader", masked_units: ["reason"] });
			}
			expect(created?.primaryResource).toMatchObject({ type: "api_key", id, displayName: "a reader" });
			expect(rotated?.primaryResource?.id).toBe(next?.id);
			expect(rotated?.relatedResources).toMatchObject([{ type: "api_key", id, role: "replaced" }]);
			expect(revoked?.reason).toBe("left the company");
		}
	});

	test("of a key whose name is longer than names in events are, by the beginning: it can be rotated and revoked", async () => {
		// Before there was AccessService nobody looked at the names of keys.
		const key = await createKey(service.database.url, "reader", ["acme"], { name: "x".repeat(1_025) });
		const id = parseApiKey(key)?.id ?? "";
		const { key: next } = await ofAcme.rotateApiKey({ id });
		expect(await ofAcme.revokeApiKey({ id: next?.id ?? "", reason: "lost" })).toMatchObject({ changed: true });
		const { rows } = await admin.query<{ name: string }>(
			`SELECT u_resources::jsonb #>> '{primary_resource,display_name}' AS name FROM audit.events
			 WHERE action LIKE 'audit.key.%' AND resource_id = $1 ORDER BY batch_id, ord`,
			[next?.id],
		);
		expect(rows.map(({ name }) => name)).toEqual(["x".repeat(1_024), "x".repeat(1_024)]);
	});

	test("a key for every tenant is in no tenant's log, but in the operator's", async () => {
		const lines: Record<string, unknown>[] = [];
		const logger = createLogger("silent");
		logger.info = ((line: Record<string, unknown>) => void lines.push(line)) as typeof logger.info;
		const path = openWritePath({ databaseUrl: service.database.url, secret: testSecret() });
		const keys = deriveKeys(testSecret());
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		const log = new ServiceLog({ db: path.db, partitions: new Partitions(path.db), ...hashing, onAppended: () => {} });
		const changes = new KeyChanges({ log, keys, tenants: path.tenants, logger });
		const before = await countEvents();
		const spec = { name: "Jane's", role: "operator", tenants: "all", maskedUnits: [], expiresAt: undefined } as const;
		const made = await changes.create(spec, COMMAND_LINE);
		expect(await countEvents()).toBe(before);
		expect(lines).toEqual([{ change: "created", key_id: made?.key.id, role: "operator", by: "cli" }]);
		await path.close();
	});

	async function countEvents(): Promise<number> {
		return (await admin.query("SELECT FROM audit.events")).rowCount ?? 0;
	}
});

describe("rotation", () => {
	test("twenty at once: each gives a key of its own, all of them work, and one by one the old ones get their end", async () => {
		const { key } = await operator.createApiKey(reader({ name: "shared" }));
		const id = key?.id ?? "";
		const rotated = await Promise.all(
			Array.from({ length: 20 }, () => operator.rotateApiKey({ id, overlap: { seconds: 3_600n } })),
		);
		expect(new Set(rotated.map(({ secret }) => secret)).size).toBe(20);
		for (const { secret } of rotated) expect(await statusWith(secret)).toBe(200);
		// Each replaced all that were there before it.
		const counts = rotated.map(({ replaced }) => replaced.length).sort((a, b) => a - b);
		expect(counts).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
		const { keys } = await operator.listApiKeys({ tenantId: "acme" });
		const ours = keys.filter(({ identity }) => identity === id);
		expect(ours).toHaveLength(21);
		expect(ours.filter(({ expiresAt }) => expiresAt === undefined)).toHaveLength(1);
		expect((await told("acme", id)).filter(({ action }) => action === "audit.key.rotated")).toHaveLength(20);
	});

	test("without overlap the old key is good for nothing more; neither it nor a revoked one is rotated again", async () => {
		const { key, secret } = await operator.createApiKey(reader());
		const id = key?.id ?? "";
		const { key: next } = await operator.rotateApiKey({ id, overlap: {} });
		expect(await refusal(operator.rotateApiKey({ id }))).toMatchObject({
			code: "failed_precondition",
			reason: "KEY_EXPIRED",
		});
		expect(await statusWith(secret)).toBe(401);
		await operator.revokeApiKey({ id: next?.id ?? "" });
		expect(await refusal(operator.rotateApiKey({ id: next?.id ?? "" }))).toMatchObject({
			code: "failed_precondition",
			reason: "KEY_REVOKED",
		});
	});

	test("an old key that expires earlier than the overlap ends keeps its end, and there is an end to rotating", async () => {
		const soon = BigInt(Math.floor(Date.now() / 1000) + 600);
		const { key } = await operator.createApiKey(reader({ expiresAt: { seconds: soon, nanos: 0 } }));
		let id = key?.id ?? "";
		const { replaced } = await operator.rotateApiKey({ id });
		expect(replaced.map(({ expiresAt }) => expiresAt?.seconds)).toEqual([soon]);
		for (let working = 2; working < 32; working += 1)
			({
				key: { id } = { id },
			} = await operator.rotateApiKey({ id }));
		expect(await refusal(operator.rotateApiKey({ id }))).toMatchObject({ reason: "TOO_MANY_KEYS" });
		expect((await operator.rotateApiKey({ id, overlap: {} })).replaced).toHaveLength(32);
	});
});

test("an expired key is refused from that moment on, though it is remembered", async () => {
	// Long enough for a slow machine to use it before.
	const seconds = BigInt(Math.ceil(Date.now() / 1000) + 6);
	const { secret } = await operator.createApiKey(reader({ expiresAt: { seconds, nanos: 0 } }));
	expect(await statusWith(secret)).toBe(200);
	await waitFor(async () => (await statusWith(secret)) === 401, { what: "the end of the key" });
	expect(Date.now()).toBeGreaterThanOrEqual(Number(seconds) * 1000);
});

test("revoked while it is made, a key is revoked; made twice, it is not", async () => {
	const made = await Promise.all(Array.from({ length: 10 }, () => operator.createApiKey(reader({ name: "raced" }))));
	const results = await Promise.all(
		made.flatMap(({ key }) => [0, 1, 2].map(() => operator.revokeApiKey({ id: key?.id ?? "" }))),
	);
	// Three each, of which one did it.
	expect(results.filter(({ changed }) => changed)).toHaveLength(10);
	for (const { key } of made) {
		const actions = (await told("acme", key?.id ?? "")).map(({ action }) => action);
		expect(actions).toEqual(["audit.key.created", "audit.key.revoked"]);
	}
});

test("a list goes on page by page; its tokens are bound to the filter and to what the caller sees", async () => {
	await Promise.all(Array.from({ length: 15 }, () => ofAcme.createApiKey({ name: "one of many", role: Role.READER })));
	const all: ApiKey[] = [];
	let pageToken = "";
	do {
		const page = await ofAcme.listApiKeys({ pageSize: 7, pageToken, includeInactive: true });
		all.push(...page.keys);
		pageToken = page.nextPageToken;
	} while (pageToken !== "");
	const ids = all.map(({ id }) => id);
	expect(new Set(ids).size).toBe(ids.length);
	expect(ids).toEqual((await ofAcme.listApiKeys({ pageSize: 1_000, includeInactive: true })).keys.map(({ id }) => id));
	const times = all.map(({ createdAt }) => Number(createdAt?.seconds));
	expect(times).toEqual(times.toSorted((a, b) => b - a));
	const { nextPageToken } = await ofAcme.listApiKeys({ pageSize: 1 });
	expect(nextPageToken).not.toBe("");
	for (const call of [
		() => ofAcme.listApiKeys({ pageToken: nextPageToken, includeInactive: true }),
		() => ofAcme.listApiKeys({ pageToken: nextPageToken, tenantId: "acme" }),
		() => ofBoth.listApiKeys({ pageToken: nextPageToken }),
		() => operator.listApiKeys({ pageToken: nextPageToken }),
	]) {
		expect(await refusal(call())).toMatchObject({ code: "invalid_argument", reason: "INVALID_PAGE_TOKEN" });
	}
});

test("a dump of the table holds no key that can be used", async () => {
	const { secret } = await operator.createApiKey(reader());
	const { rows } = await admin.query<{ dump: string; hash: string }>(
		"SELECT k::text AS dump, encode(secret_hash, 'hex') AS hash FROM audit.api_keys k",
	);
	const dump = rows.map((row) => row.dump).join("\n");
	const { id, secret: hex } = parseApiKey(secret) ?? newApiKey();
	expect(dump).toContain(id);
	expect(dump).not.toContain(hex);
	expect(dump).not.toContain(Buffer.from(hex, "hex").toString("base64"));
	// Whoever takes what is stored for the secret gets nowhere.
	for (const { hash } of rows.slice(0, 3)) expect(await statusWith(formatApiKey({ id, secret: hash }))).toBe(401);
});

test("demo keys are the same at every start; one that is there is left as it is", async () => {
	const seed = () => seedDemoTenants(service.database.url, testSecret(), createLogger("silent"));
	const first = await seed();
	const id = demoApiKey(deriveKeys(testSecret()), "Globex reader").id;
	await operator.revokeApiKey({ id });
	expect(await seed()).toEqual(first);
	expect(await statusWith(first.adminKey)).toBe(200);
	expect(await statusWith(first.tenants[1].readerKey)).toBe(401);
	const { rows } = await admin.query("SELECT name FROM audit.api_keys WHERE id = $1", [id]);
	expect(rows).toEqual([{ name: "demo: Globex reader" }]);
});
