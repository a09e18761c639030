import { create, createFileRegistry, type DescService } from "@bufbuild/protobuf";
import {
	FileDescriptorSetSchema,
	FieldDescriptorProto_Label as Label,
	FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";
import { Code, createClient, createConnectRouter, type Interceptor, type ServiceImpl } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ApiKeyVerifier, findApiKeyIn, REVOKED_WITHIN_MS } from "../../src/auth/api-key-verifier.ts";
import { Authenticator } from "../../src/auth/authenticator.ts";
import type { Principal } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import { AuditError } from "../../src/errors.ts";
import { createLogger } from "../../src/logger.ts";
import { CallLog } from "../../src/rpc/call-log.ts";
import { ClientAddresses } from "../../src/rpc/client-address.ts";
import { Connections } from "../../src/rpc/connections.ts";
import { guard } from "../../src/rpc/guard.ts";
import { requestGate } from "../../src/rpc/interceptors.ts";
import { DOOR_LIMITS } from "../../src/rpc/limits.ts";
import { Origins } from "../../src/rpc/origins.ts";
import { openPort } from "../../src/rpc/port.ts";
import { Quota } from "../../src/rpc/quota.ts";
import { routerOptions, routeTo } from "../../src/rpc/route-rpcs.ts";
import { type Database, openDatabase } from "../../src/storage/db.ts";
import { Telemetry } from "../../src/telemetry.ts";
import { createKey } from "../support/rpc-service.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";

// What holds for every streaming RPC that needs a key, shown on one that is nobody's: it says "hello", and then nothing
// until somebody leaves. It bears the name of an RPC there is, because there is no permission for any other.

let database: TestDatabase;
let db: Database;
let admin: Client;

beforeAll(async () => {
	database = await createTestDatabase();
	db = openDatabase({ databaseUrl: database.url, keys: deriveKeys(testSecret()), logger: createLogger("silent") });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
});

afterAll(async () => {
	await db.close();
	await admin.end();
	await database.drop();
});

const Streams = describeStreams();
const LATE = { timeout: 90_000 };

const byApiKey = () =>
	new Authenticator({ apiKeys: new ApiKeyVerifier(findApiKeyIn(db.keys), deriveKeys(testSecret())) });

test.concurrent.each(["Connect", "gRPC"])(
	"a stream over %s ends within 30 seconds after its key was revoked, that of another key does not",
	LATE,
	async (protocol) => {
		const port = await openStreams(byApiKey());
		const [key, kept] = [
			await createKey(database.url, "reader", ["acme"]),
			await createKey(database.url, "reader", "all"),
		];
		const stream = open(port.url, protocol, key);
		const leaving = new AbortController();
		const other = open(port.url, protocol, kept, leaving.signal);
		expect((await stream.next()).value).toMatchObject({ text: "hello" });
		expect((await other.next()).value).toMatchObject({ text: "hello" });
		await admin.query("SELECT audit.revoke_api_key($1)", [key.split("_")[1]]);
		const revokedAt = performance.now();
		await expect(stream.next()).rejects.toMatchObject({
			code: Code.Unauthenticated,
			rawMessage: "a valid key or token is required: send Authorization: Bearer <key>",
		});
		expect(performance.now() - revokedAt).toBeLessThan(REVOKED_WITHIN_MS);
		await expect(open(port.url, protocol, key).next()).rejects.toMatchObject({ code: Code.Unauthenticated });
		// The other goes on, until its caller leaves.
		expect(port.running()).toBe(1);
		leaving.abort();
		await waitFor(() => port.running() === 0, { what: "the end of its handler" });
		await port.close();
	},
);

test.concurrent("a stream ends when its key expires", LATE, async () => {
	const port = await openStreams(byApiKey());
	const key = await createKey(database.url, "reader", ["acme"]);
	const stream = open(port.url, "gRPC", key);
	await stream.next();
	await admin.query("SELECT audit.rotate_api_key($1, 'other', '', NULL, clock_timestamp(), 'test')", [
		key.split("_")[1],
	]);
	await expect(stream.next()).rejects.toMatchObject({ code: Code.Unauthenticated });
	await port.close();
});

/** Not API keys, and nothing about them: whatever an authenticator says. */
const JANE: Principal = {
	kind: "jwt",
	id: "jane",
	keyId: "jane",
	name: "Jane",
	roles: new Set(["reader"]),
	tenants: "all",
	maskedUnits: new Set(),
	expiresAt: undefined,
};

test.concurrent.each<[string, "ends" | "goes on", Partial<Principal>]>([
	["whose caller has another role", "ends", { roles: new Set(["reader", "writer"]) }],
	["whose caller has lost tenants", "ends", { tenants: new Set() }],
	["for whose caller something is masked", "ends", { maskedUnits: new Set(["actor"]) }],
	["whose caller is somebody else", "ends", { id: "john" }],
	["whose caller is called otherwise", "goes on", { name: "Jane Doe", expiresAt: 4_102_444_800_000 }],
])("a stream %s %s", LATE, async (_, expected, changed) => {
	let asked = 0;
	let now = JANE;
	const port = await openStreams({
		authenticate: () => {
			asked += 1;
			return Promise.resolve(now);
		},
	});
	const stream = open(port.url, "gRPC", "");
	await stream.next();
	now = { ...JANE, ...changed };
	if (expected === "ends") await expect(stream.next()).rejects.toMatchObject({ code: Code.Unauthenticated });
	else await waitFor(() => asked >= 3, { what: "it to be asked twice more" });
	expect(port.running()).toBe(expected === "ends" ? 0 : 1);
	await stream.return?.();
	await port.close();
});

test.concurrent("a stream outlives a moment in which nobody can tell, and ends if that lasts", LATE, async () => {
	const away = new AuditError("unavailable", "the database is away; try again", { reason: "DATABASE_UNAVAILABLE" });
	let asked = 0;
	let isAway = false;
	const port = await openStreams({
		authenticate: () => {
			asked += 1;
			return isAway ? Promise.reject(away) : Promise.resolve(JANE);
		},
	});
	const stream = open(port.url, "gRPC", "");
	await stream.next();
	isAway = true;
	await waitFor(() => asked === 2, { what: "the first answer that is none" });
	isAway = false;
	await waitFor(() => asked === 3, { what: "an answer" });
	expect(port.running()).toBe(1);
	isAway = true;
	await expect(stream.next()).rejects.toMatchObject({ code: Code.Unavailable });
	// Nobody is asked any more.
	await waitFor(() => port.running() === 0, { what: "the end of its handler" });
	await port.close();
});

/** A port with one streaming RPC behind the service's own gate and interceptors. */
async function openStreams(authenticator: Pick<Authenticator, "authenticate">) {
	const logger = createLogger("silent");
	const stopping = new AbortController();
	let running = 0;
	const impl = {
		async *query(_: unknown, { signal }: { signal: AbortSignal }) {
			running += 1;
			try {
				yield { text: "hello" };
				await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
			} finally {
				running -= 1;
			}
		},
	};
	const gate = requestGate(authenticator as Authenticator);
	const router = createConnectRouter({ ...routerOptions(DOOR_LIMITS, stopping.signal), requestGate: gate });
	router.service(Streams, impl as unknown as ServiceImpl<DescService>);
	const budgets = { requests: new Quota(2 ** 26, 2 ** 26), answers: new Quota(2 ** 26, 2 ** 26) };
	const handle = guard(routeTo(router, { budgets, limits: DOOR_LIMITS }), {
		log: new CallLog(logger),
		telemetry: new Telemetry(),
		stalledMs: DOOR_LIMITS.stalledMs,
		calls: new Quota(100, 100),
		addresses: new ClientAddresses([]),
		origins: new Origins([]),
	});
	const connections = new Connections({ ...DOOR_LIMITS, logger });
	const port = await openPort({
		host: "127.0.0.1",
		port: 0,
		protocol: "any",
		handle,
		connections,
		limits: DOOR_LIMITS,
	});
	const close = async () => {
		stopping.abort();
		await port.close(500);
	};
	return { url: port.url, close, running: () => running };
}

function open(baseUrl: string, protocol: string, key: string, signal?: AbortSignal): AsyncIterator<{ text: string }> {
	const sendKey: Interceptor = (next) => (request) => {
		request.header.set("authorization", `Bearer ${key}`);
		return next(request);
	};
	const options = { baseUrl, interceptors: [sendKey] };
	const transport =
		protocol === "gRPC" ? createGrpcTransport(options) : createConnectTransport({ ...options, httpVersion: "2" });
	const client = createClient(Streams, transport) as unknown as {
		query(request: object, options: object): AsyncIterable<{ text: string }>;
	};
	return client.query({}, signal ? { signal } : {})[Symbol.asyncIterator]();
}

function describeStreams(): DescService {
	const text = { name: "text", number: 1, type: Type.STRING, label: Label.OPTIONAL, jsonName: "text" };
	const file = {
		name: "test.proto",
		package: "test",
		syntax: "proto3",
		messageType: [{ name: "Text", field: [text] }],
		service: [
			{
				name: "Streams",
				method: [{ name: "Query", inputType: ".test.Text", outputType: ".test.Text", serverStreaming: true }],
			},
		],
	};
	const service = createFileRegistry(create(FileDescriptorSetSchema, { file: [file] })).getService("test.Streams");
	if (!service) throw new Error("no such service");
	return service;
}
