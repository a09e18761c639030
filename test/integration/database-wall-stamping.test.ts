import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { headers } from "nats";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Postgres } from "../../src/dev/postgres.ts";
import type { TenantId } from "../../src/event/event.ts";
import { BatchWriteRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { decodeMessage } from "../../src/ingest/nats-message.ts";
import { inLetters, inTenant } from "../../src/storage/db.ts";
import { migrate } from "../../src/storage/migrate.ts";
import { checkTrail } from "../support/check-trail.ts";
import { startOwnPostgres, testSecret } from "../support/services.ts";
import { anEvent, openWritePath, type WritePath } from "../support/write-path.ts";

/**
 * Whose an event is, decided by the key, the subject or the event, is whose its row is: for any mixture of calls and messages
 * of many tenants that come at once and share transactions, by COPY, by INSERT, and by the careful path of retries.
 */

const TENANTS = ["acme", "Acme", "globex", "initech"];
const SHARED_IDS = ["0190163d-8694-739b-aea5-966c26f8ad91", "6f7c1a52-6a5e-4b52-9f3e-2f1f4a3b5c6d"];
const tenant = fc.constantFrom(...TENANTS);

/** An event that names a tenant, or none; under an id that other tenants use too, or none. */
const event = fc.record({
	names: fc.option(tenant, { nil: "", freq: 2 }),
	sharedId: fc.option(fc.constantFrom(...SHARED_IDS), { nil: "", freq: 2 }),
});
const events = fc.array(event, { minLength: 1, maxLength: 8, size: "max" });
/** A call by a key for some tenants, or a message on the subject of one or of none. */
const call = fc.oneof(
	fc.record({ door: fc.constant("rpc" as const), tenants: fc.uniqueArray(tenant, { maxLength: 3 }), events }),
	fc.record({ door: fc.constant("nats" as const), subject: fc.option(tenant, { nil: undefined, freq: 3 }), events }),
);
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

describe.each([
	{ by: "COPY", bypasses: true },
	{ by: "INSERT", bypasses: false },
])("stored by $by", ({ bypasses }) => {
	let postgres: Postgres;
	let path: WritePath;
	let admin: Client;
	/** Everything that must be stored so far: what stands in the event, and whose it is. */
	const stored = new Map<string, string>();
	/** How many dead letters each has. Nobody's have "". */
	const letters = new Map<string, number>();
	let made = 0;

	beforeAll(async () => {
		// Its own: that the writer bypasses row-level security belongs to the server.
		postgres = await startOwnPostgres();
		await migrate({ databaseUrl: postgres.url, secret: testSecret() });
		admin = new Client({ connectionString: postgres.url });
		await admin.connect();
		if (!bypasses) await admin.query("ALTER ROLE audit_writer NOBYPASSRLS");
		path = openWritePath({ databaseUrl: postgres.url, secret: testSecret() });
		expect(await path.db.canCopy(path.db.writer)).toBe(bypasses);
	});

	afterAll(async () => {
		await path?.close();
		await admin?.end();
		if (postgres) await checkTrail({ databaseUrl: postgres.url, secret: testSecret() });
		await postgres?.stop();
	});

	/** @param owner whose it is going to be, or undefined if it is going to be refused */
	function build(names: string, sharedId: string, owner: string | undefined): Event {
		made += 1;
		const text = sharedId === "" || owner === undefined ? `${made}` : `${owner} ${sharedId}`;
		if (owner !== undefined) stored.set(text, owner);
		return anEvent({ tenantId: names, id: sharedId, occurredAt: OCCURRED, description: text });
	}

	function send(one: Call): Promise<unknown> {
		if (one.door === "rpc") {
			const { tenants } = one;
			const bound = tenants.length === 1 ? tenants[0] : undefined;
			const mayWrite = (id: string) => tenants.length === 0 || tenants.includes(id);
			const owners = one.events.map(({ names }) => {
				const owner = names || bound;
				return owner !== undefined && mayWrite(owner) && (!bound || owner === bound) ? owner : undefined;
			});
			const writer = { door: "rpc" as const, keyId: "key", boundTenant: bound as TenantId | undefined, mayWrite };
			const built = one.events.map(({ names, sharedId }, i) => build(names, sharedId, owners[i]));
			return path.ingest.accept(built, writer, { atomic: false }).then((results) => {
				expect(results.map((result) => (result.ok ? result.event.tenantId : undefined))).toEqual(owners);
			});
		}
		const { subject } = one;
		const built = one.events.map(({ names, sharedId }) => {
			const owner =
				subject !== undefined && names !== "" && names !== subject ? undefined : (subject ?? names) || undefined;
			if (owner === undefined) letters.set(subject ?? names, (letters.get(subject ?? names) ?? 0) + 1);
			return build(names, sharedId, owner);
		});
		const batch = headers();
		batch.append("Audit-Type", "batch");
		made += 1;
		const message = {
			subject: subject === undefined ? "audit.events" : `audit.events.${subject}`,
			reply: `$JS.ACK.AUDIT.audit-writer.1.${made}.${made}.1769860800123456789.0`,
			headers: batch,
			data: toBinary(
				BatchWriteRequestSchema,
				create(BatchWriteRequestSchema, { events: built.map((each) => create(EventSchema, each)) }),
			),
		};
		return path.ingest.acceptMessages(decodeMessage(message, new Date(0)));
	}

	test("each row is of the tenant that key, subject or event determined, and seen in no other's transaction", async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(call, { minLength: 1, maxLength: 8, size: "max" }), async (calls) => {
				await Promise.all(calls.map(send));
				const { rows } = await admin.query<{ tenant_id: string; text: string }>(
					"SELECT tenant_id, u_description::jsonb #>> '{}' AS text FROM audit.events WHERE kind = 1",
				);
				expect(rows).toHaveLength(stored.size);
				expect(new Map(rows.map(({ tenant_id, text }) => [text, tenant_id]))).toEqual(stored);
				for (const id of TENANTS as TenantId[]) {
					const seen = await inTenant(path.db, id, async (client) => {
						const { rows: own } = await client.query(
							"SELECT u_description::jsonb #>> '{}' AS text FROM audit.events WHERE kind = 1",
						);
						return own.map(({ text }) => text);
					});
					expect(new Set(seen)).toEqual(new Set([...stored].filter(([, owner]) => owner === id).map(([text]) => text)));
				}
			}),
			// What was stored stays: a smaller example would be judged by it, too.
			{ numRuns: 40, endOnFailure: true },
		);
		expect(stored.size).toBeGreaterThan(150);
	});

	test("and so is each dead letter", async () => {
		for (const id of TENANTS as TenantId[]) {
			const { rows } = await inLetters(path.db, new Set([id]), (client) =>
				client.query("SELECT tenant_id FROM audit.dead_letters"),
			);
			expect(rows.length).toBe(letters.get(id) ?? 0);
			expect(rows.filter(({ tenant_id }) => tenant_id !== id)).toEqual([]);
		}
		const { rowCount } = await admin.query("SELECT FROM audit.dead_letters WHERE tenant_id IS NULL");
		expect(rowCount).toBe(letters.get("") ?? 0);
		expect(letters.size).toBeGreaterThan(2);
	});
});

const OCCURRED = { seconds: BigInt(Math.floor(Date.now() / 1000) - 3_600), nanos: 0 };
