import { Client } from "pg";
import { createDeadLetterClient, type DeadLetterClient } from "../../src/client/index.ts";
import { type Environment, loadConfig } from "../../src/config.ts";
import type { Nats } from "../../src/dev/nats.ts";
import type { TenantId } from "../../src/event/event.ts";
import type { DeadLetter } from "../../src/gen/audit/v1/dead_letter_service_pb.ts";
import { createLogger } from "../../src/logger.ts";
import { type RunningServer, startServer } from "../../src/server.ts";
import { checkTrail } from "./check-trail.ts";
import { type NatsClient, type Outgoing, openNatsClient, untilDrained, untilUp } from "./nats-client.ts";
import { createKey } from "./rpc-service.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret } from "./services.ts";
import { openWritePath } from "./write-path.ts";

/** The whole service in this process, with a database and a nats-server of its own. No tenant is made by itself. */
export interface LetterService extends RunningServer {
	readonly database: TestDatabase;
	readonly nats: NatsClient;
	/** Reaches the database as its superuser. */
	readonly admin: Client;
	/** Calls with the key of an operator of all tenants. */
	readonly operator: DeadLetterClient;
	/** That key. */
	readonly key: string;
	/** Makes an operator's key for these tenants, and a client with it. */
	operatorOf(...tenants: string[]): Promise<DeadLetterClient>;
	makeTenants(...tenants: string[]): Promise<void>;
	/** Publishes messages, waits until each is dealt with, and gives the open letters, oldest first. */
	publish(...messages: Outgoing[]): Promise<DeadLetter[]>;
	/** Verifies the trail and ends everything. */
	end(): Promise<void>;
}

/** @param settings more than the usual ones */
export async function startLetterService(settings: Environment = {}): Promise<LetterService> {
	const [nats, database]: [Nats, TestDatabase] = await Promise.all([startOwnNats(), createTestDatabase()]);
	const config = loadConfig({
		DATABASE_URL: database.url,
		NATS_URL: nats.url,
		AUDIT_SECRET: testSecret(),
		AUDIT_AUTO_CREATE_TENANTS: "false",
		HTTP_PORT: "0",
		GRPC_PORT: "0",
		// Idle connections are the tests' own, and are not waited for.
		AUDIT_DRAIN_NOTICE_MS: "0",
		AUDIT_DRAIN_MS: "500",
		...settings,
	});
	const server = await startServer(config, createLogger("silent"));
	if (!server.natsDoor) throw new Error("there is no NATS door");
	await untilUp(server.natsDoor);
	const client = await openNatsClient(nats.url);
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	const key = await createKey(database.url, "operator", "all");
	const operator = createDeadLetterClient({ url: server.httpUrl, key });
	return {
		...server,
		database,
		nats: client,
		admin,
		operator,
		key,
		async operatorOf(...tenants) {
			const ofTenants = await createKey(database.url, "operator", tenants);
			return createDeadLetterClient({ url: server.httpUrl, key: ofTenants });
		},
		async makeTenants(...tenants) {
			const path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
			for (const tenant of tenants) await path.tenants.create(tenant as TenantId, tenant);
			await path.close();
		},
		async publish(...messages) {
			await client.publish(messages);
			await untilDrained(client);
			const { deadLetters } = await operator.listDeadLetters({ filter: { state: 1 }, pageSize: 200 });
			return deadLetters.toReversed();
		},
		async end() {
			await client.close();
			await server.close();
			await checkTrail({ databaseUrl: database.url, secret: testSecret() });
			await admin.end();
			await Promise.all([database.drop(), nats.stop()]);
		},
	};
}
