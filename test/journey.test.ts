import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { connect as connectNats } from "nats";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
	ActorType,
	type AuditClient,
	AuditService,
	createAuditClient,
	type Event,
	Order,
	Severity,
} from "../src/client/index.ts";
import type { Nats } from "../src/dev/nats.ts";
import { checkTrail } from "./support/check-trail.ts";
import { createKey } from "./support/rpc-service.ts";
import { type ServiceProcess, startService } from "./support/service-process.ts";
import { createTestDatabase, startOwnNats, type TestDatabase, testSecret, waitFor } from "./support/services.ts";

/** The spine end to end: in by every door, out page by page across a restart, and proven. */

let database: TestDatabase;
let nats: Nats;
let service: ServiceProcess;
let key: string;
const tenantId = "journey";

beforeAll(async () => {
	database = await createTestDatabase();
	nats = await startOwnNats();
	key = await createKey(database.url, "operator", "all");
	service = await start();
});

afterAll(async () => {
	await service.stop();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await nats.stop();
	await database.drop();
});

function start(): Promise<ServiceProcess> {
	return startService({ DATABASE_URL: database.url, NATS_URL: nats.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
}

const client = (): AuditClient => createAuditClient({ url: service.httpUrl, key });

async function all(pageSize: number, order: Order, onPage?: () => Promise<void>): Promise<Event[]> {
	const events: Event[] = [];
	for (let pageToken = ""; ; ) {
		const page = await client().query({ tenantId, pageSize, pageToken, order });
		events.push(...page.events);
		pageToken = page.nextPageToken;
		if (pageToken === "") return events;
		await onPage?.();
	}
}

test("an event written by any door is found by every other, page by page, also across a restart", async () => {
	const event = (action: string) => ({
		tenantId,
		action,
		severity: Severity.SECURITY,
		actor: { id: "u", type: ActorType.USER },
	});
	const withKey = [
		(next: (request: never) => Promise<never>) => (request: { header: Headers }) => {
			request.header.set("authorization", `Bearer ${key}`);
			return next(request as never);
		},
	] as never;
	const grpc = createClient(AuditService, createGrpcTransport({ baseUrl: service.grpcUrl, interceptors: withKey }));
	const grpcWeb = createClient(
		AuditService,
		createGrpcWebTransport({ baseUrl: service.httpUrl, interceptors: withKey }),
	);

	await client().writeEvent({ event: event("by.connect") });
	await grpc.writeEvent({ event: event("by.grpc") });
	await grpcWeb.writeEvent({ event: event("by.grpc-web") });
	await client().batchWrite({ events: [event("by.batch"), event("by.batch")] });
	const rest = await fetch(`${service.httpUrl}/v1/audit/events`, {
		method: "POST",
		headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
		body: JSON.stringify({ tenant_id: tenantId, action: "by.rest", actor: { id: "u" } }),
	});
	expect(rest.status).toBe(200);
	await publish({ action: "by.nats", actor: { id: "u" } });

	const expected = [
		"audit.log.created",
		"by.batch",
		"by.batch",
		"by.connect",
		"by.grpc",
		"by.grpc-web",
		"by.nats",
		"by.rest",
	];
	const actions = (events: Event[]) => events.map(({ action }) => action).sort((a, b) => (a < b ? -1 : 1));
	await waitFor(async () => (await all(100, Order.NEWEST_FIRST)).length === expected.length, {
		what: "the NATS event",
	});
	for (const order of [Order.NEWEST_FIRST, Order.OLDEST_FIRST]) expect(actions(await all(3, order))).toEqual(expected);

	const acrossRestarts = await all(3, Order.NEWEST_FIRST, async () => {
		await service.stop();
		service = await start();
	});
	expect(actions(acrossRestarts)).toEqual(expected);

	for (const { id, action } of acrossRestarts) {
		expect((await client().getEvent({ tenantId, id })).event?.action).toBe(action);
	}
}, 90_000);

async function publish(event: unknown): Promise<void> {
	const nc = await connectNats({ servers: nats.url });
	await waitFor(() => nc.jetstream().publish(`audit.events.${tenantId}`, JSON.stringify(event)), {
		what: "the stream",
	});
	await nc.close();
}

test("a write that is answered survives the service being killed in the same moment", async () => {
	const { eventId } = await client().writeEvent({ event: { tenantId, action: "last.words", actor: { id: "u" } } });
	service.kill("SIGKILL");
	await service.exited();
	service = await start();
	expect((await client().getEvent({ tenantId, id: eventId })).event?.action).toBe("last.words");
}, 60_000);
