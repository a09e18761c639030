import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TenantId } from "../../../src/event/event.ts";
import { vocabularyFaults } from "../../../src/storage/verify-vocabulary.ts";
import { checkTrail } from "../../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../../support/write-path.ts";

let database: TestDatabase;
const replicas: WritePath[] = [];

beforeAll(async () => {
	database = await createTestDatabase();
	for (let i = 0; i < 2; i += 1) replicas.push(openWritePath({ databaseUrl: database.url, secret: testSecret() }));
	return async () => {
		for (const replica of replicas) await replica.close();
		await database.drop();
	};
});
afterAll(() => checkTrail({ databaseUrl: database.url, secret: testSecret() }));

describe("the vocabulary", () => {
	test("is put down by two replicas at once, in whatever order their events come", async () => {
		const tenantId = "two-replicas" as TenantId;
		for (let round = 0; round < 20; round += 1) {
			const events = Array.from({ length: 200 }, (_, i) => ({ tenantId, action: `round-${round}.action-${i}` }));
			const results = await Promise.all(
				[events, events.toReversed()].map((each, i) =>
					(replicas[i] as WritePath).ingest.accept(each.map(anEvent), aWriter(), { atomic: true }),
				),
			);
			expect(results.flat().filter(({ ok }) => !ok)).toEqual([]);
		}
	});

	test("does not grow with one batch that has a new word in each place", async () => {
		const tenantId = "many-words" as TenantId;
		const [replica] = replicas as [WritePath];
		const events = Array.from({ length: 1000 }, (_, i) =>
			anEvent({
				tenantId,
				action: `action-${i}`,
				source: randomUUID().padEnd(200, "s"),
				primaryResource: { id: "1", type: randomUUID().padEnd(200, "t") },
				relatedResources: Array.from({ length: 32 }, () => ({ id: "1", type: randomUUID().padEnd(200, "r") })),
			}),
		);
		const results = await replica.ingest.accept(events, aWriter(), { atomic: true });
		expect(results.filter(({ ok }) => !ok)).toEqual([]);
		const client = new Client({ connectionString: database.url });
		await client.connect();
		try {
			const { rows } = await client.query<{ n: number; full: boolean }>(
				"SELECT count(*)::int AS n, bool_or(action = '*') AS full FROM audit.vocabulary WHERE tenant_id = $1",
				[tenantId],
			);
			expect(rows).toEqual([{ n: expect.toSatisfy((n: number) => n <= 5_010), full: true }]);
		} finally {
			await client.end();
		}
	});

	test("that lacks what an event has is told of by the verifier, unless it says that there is anything", async () => {
		const tenantId = "lacking" as TenantId;
		const [replica] = replicas as [WritePath];
		const event = anEvent({ tenantId, relatedResources: [{ id: "1", type: "file" }, { id: "2" }] });
		const [result] = await replica.ingest.accept([event], aWriter(), { atomic: true });
		expect(result?.ok).toBe(true);
		const client = new Client({ connectionString: database.url });
		await client.connect();
		try {
			const faultsAfter = async (change: string) => {
				await client.query("BEGIN; ALTER TABLE audit.vocabulary DISABLE TRIGGER USER");
				await client.query(change);
				const faults = await vocabularyFaults(client);
				await client.query("ROLLBACK");
				return faults
					.filter((fault) => fault.tenantId === tenantId)
					.map(({ message }) => message.replace(/.* lacks /, ""));
			};
			const ofTenant = `tenant_id = '${tenantId}' AND action = 'user.login'`;
			expect(await faultsAfter("SELECT")).toEqual([]);
			const deleted = `DELETE FROM audit.vocabulary WHERE ${ofTenant}`;
			expect(await faultsAfter(`${deleted} AND related_type = 'file'`)).toEqual([
				"1 of the shapes its events have: searches would not find them",
			]);
			expect(await faultsAfter(deleted)).toEqual(["2 of the shapes its events have: searches would not find them"]);
			const marked = `UPDATE audit.vocabulary SET action = '*' WHERE ${ofTenant} AND related_type IS NULL`;
			expect(await faultsAfter(`${marked}; ${deleted}`)).toEqual([]);
		} finally {
			await client.end();
		}
	});
});
