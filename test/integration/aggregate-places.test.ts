import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AggregateField, type AuditClient, BatchWriteMode, createAuditClient } from "../../src/client/index.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { testSecret, waitFor } from "../support/services.ts";

/** How many counts go on at one time. */

let service: RpcService;
let clients: AuditClient[];
let holder: Client;
/** Another one: within a transaction PostgreSQL says again what it said of activity before. */
let watcher: Client;
/** The first moment of a month so many before this one, in seconds. */
const month = (ago: number) => Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() - ago, 1) / 1000;
const partition = `audit.events_${new Date(month(2) * 1000).toISOString().slice(0, 7).replace("-", "_")}`;

beforeAll(async () => {
	service = await startRpcService();
	// More calls than one key may have at a time.
	const keys = await Promise.all([1, 2, 3].map(() => service.createKey("operator", "all")));
	clients = keys.map((key) => createAuditClient({ url: service.httpUrl, key, attempts: 1 }));
	const times = [1, 2, 3].map((ago) => ({ seconds: BigInt(month(ago) + 86_400), nanos: 0 }));
	const [mode, event] = [BatchWriteMode.ATOMIC, { action: "a.b", actor: { id: "jane" } }];
	for (const tenantId of ["acme", "globex"]) {
		await clients[0]?.batchWrite({ mode, events: times.map((occurredAt) => ({ ...event, tenantId, occurredAt })) });
	}
	[holder, watcher] = [1, 2].map(() => new Client({ connectionString: service.database.url })) as [Client, Client];
	await Promise.all([holder.connect(), watcher.connect()]);
});
afterAll(async () => {
	await Promise.all([holder.end(), watcher.end()]);
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

test("three at a time, two of one tenant; the others wait, and searches go on", async () => {
	const fields = [AggregateField.ACTION];
	const count = (tenantId: string, i: number) => clients[i % 3]?.aggregate({ query: { tenantId }, fields });
	await holder.query(`BEGIN; LOCK TABLE ${partition} IN ACCESS EXCLUSIVE MODE`);
	const ofAcme = Array.from({ length: 12 }, (_, i) => count("acme", i));
	const ofGlobex = count("globex", 0);
	await waitFor(async () => (await reading()) === 3);
	const { events } = (await clients[1]?.query({
		tenantId: "acme",
		occurredAfter: { seconds: BigInt(month(1)), nanos: 0 },
		actions: ["a.b"],
	})) ?? { events: [] };
	expect(events).toHaveLength(1);
	expect(await reading()).toBe(3);
	await holder.query("COMMIT");
	const answers = await Promise.all([...ofAcme, ofGlobex]);
	expect(answers.map((answer) => answer?.total)).toEqual(answers.map(() => 4n));
});

/** How many transactions the readers have open. */
async function reading(): Promise<number> {
	const { rows } = await watcher.query<{ n: number }>(
		`SELECT count(*)::integer AS n FROM pg_stat_activity
		WHERE usename = 'audit_reader' AND datname = current_database() AND xact_start IS NOT NULL`,
	);
	return rows[0]?.n ?? 0;
}
