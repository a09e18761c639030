import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { ApiKeyVerifier } from "../../src/auth/api-key-verifier.ts";
import { type ApiKey, formatApiKey, hashSecret, newApiKey } from "../../src/auth/api-keys.ts";
import { Authenticator } from "../../src/auth/authenticator.ts";
import { insertKey, type KeySpec } from "../../src/auth/key-changes.ts";
import type { MaskableUnit, Role } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import { type Environment, loadConfig } from "../../src/config.ts";
import { AuditError } from "../../src/errors.ts";
import type { TenantId } from "../../src/event/event.ts";
import { createLogger, type Logger } from "../../src/logger.ts";
import { type Doors, type ListenOptions, listen } from "../../src/rpc/listen.ts";
import { type RunningServer, startServer } from "../../src/server.ts";
import { Telemetry } from "../../src/telemetry.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "./services.ts";

/** The whole service in this process, on a database of its own. */
export interface RpcService extends RunningServer {
	readonly database: TestDatabase;
	/** Makes a key and returns its text. */
	createKey(role: Role, tenants: readonly string[] | "all", masked?: readonly MaskableUnit[]): Promise<string>;
	/** Stops the service and drops the database. */
	end(): Promise<void>;
}

/**
 * The service with a database. Tenants are created by the first write to them.
 *
 * @param natsUrl without it there is no NATS door
 * @param env more settings
 */
export async function startRpcService(
	{ natsUrl, env = {} }: { natsUrl?: string; env?: Environment } = {},
	logger = createLogger("silent"),
): Promise<RpcService> {
	const database = await createTestDatabase();
	const config = loadConfig({
		DATABASE_URL: database.url,
		AUDIT_SECRET: testSecret(),
		AUDIT_AUTO_CREATE_TENANTS: "true",
		HTTP_PORT: "0",
		GRPC_PORT: "0",
		AUDIT_DRAIN_NOTICE_MS: "0",
		// Idle connections are the tests' own, and are not waited for.
		AUDIT_DRAIN_MS: "500",
		...(natsUrl !== undefined && { NATS_URL: natsUrl }),
		...env,
	});
	const server = await startServer(config, logger);
	return {
		...server,
		database,
		createKey: (role, tenants, maskedUnits = []) => createKey(database.url, role, tenants, { maskedUnits }),
		async end() {
			await server.close();
			await database.drop();
		},
	};
}

/**
 * Makes a key straight in a database, for tenants that need not exist yet. No event tells of it: what tests find in a log is
 * what they are about.
 */
export async function createKey(
	url: string,
	role: Role,
	tenants: readonly string[] | "all",
	{
		maskedUnits = [],
		expiresAt,
		name = `test ${randomBytes(3).toString("hex")}`,
	}: Partial<Pick<KeySpec, "maskedUnits" | "expiresAt" | "name">> = {},
): Promise<string> {
	const admin = new Client({ connectionString: url });
	await admin.connect();
	try {
		const key = newApiKey();
		const made = await insertKey(admin, hashSecret(deriveKeys(testSecret()), key), {
			id: key.id,
			name,
			role,
			tenants: tenants === "all" ? tenants : new Set(tenants as readonly TenantId[]),
			maskedUnits,
			expiresAt,
			by: "test",
		});
		if (made === undefined) throw new Error("there is a key with this id");
		return formatApiKey(key);
	} finally {
		await admin.end();
	}
}

/** The doors alone, with nothing behind them: whatever gets through is answered with 503 and the reason REACHED. */
export async function startDoors(
	options: Partial<
		Pick<
			ListenOptions,
			| "limits"
			| "ingest"
			| "query"
			| "exporter"
			| "reads"
			| "readiness"
			| "logger"
			| "trustedProxies"
			| "corsOrigins"
			| "tls"
		>
	> = {},
): Promise<Doors & { createKey(role: Role): string }> {
	const keys = deriveKeys(testSecret());
	const known = new Map<string, { key: ApiKey; role: Role }>();
	const reached = () => Promise.reject(new AuditError("unavailable", "reached", { reason: "REACHED" }));
	const doors = await listen({
		host: "127.0.0.1",
		httpPort: { number: 0, explicit: true },
		grpcPort: { number: 0, explicit: true },
		ingest: { accept: reached },
		query: { search: reached, get: reached },
		exporter: { open: reached },
		reads: {
			recorded: (_reads, answer) => Promise.resolve(answer as never),
			recordedStream: (_read, messages) => Promise.resolve(messages as never),
		},
		letters: { list: reached, get: reached },
		redriver: { redrive: reached, discard: reached },
		access: {
			keyChanges: { create: reached, rotate: reached, revoke: reached },
			keyQuery: { has: reached, list: reached },
			tenants: { exists: reached },
		},
		tenants: { create: reached, rename: reached, setDisabled: reached },
		disabled: { has: () => Promise.resolve(false) },
		tenantList: { list: reached },
		authenticator: new Authenticator({
			apiKeys: new ApiKeyVerifier((id) => {
				const { key, role } = known.get(id) ?? {};
				return Promise.resolve(
					key &&
						role && {
							secretHash: hashSecret(keys, key),
							identity: id,
							name: "test",
							role,
							tenants: "all",
							maskedUnits: [],
							expiresAt: undefined,
						},
				);
			}, keys),
		}),
		readiness: () => Promise.resolve({ ready: true, degraded: [] }),
		telemetry: new Telemetry(),
		logger: createLogger("silent") as Logger,
		...options,
		limits: { noticeMs: 0, drainMs: 500, ...options.limits },
	});
	return {
		...doors,
		createKey(role) {
			const key = newApiKey();
			known.set(key.id, { key, role });
			return formatApiKey(key);
		},
	};
}
