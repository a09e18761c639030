import { createHash, createHmac } from "node:crypto";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { decodePayload, encodePayload, manifestDigest, nextChain } from "../../../src/integrity/manifest.ts";
import { type Problem, verifyTrail } from "../../../src/storage/verify.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { anEvent, aWriter, openWritePath } from "../../support/write-path.ts";

let database: TestDatabase;
let admin: Client;

/** Two tenants, three batches of two events each (and the tenants' first events). */
beforeEach(async () => {
	database = await createTestDatabase();
	const path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	for (let i = 0; i < 3; i += 1) {
		await path.ingest.accept(
			[anEvent({ metadata: { i }, source: "api" }), anEvent({ tenantId: "globex", metadata: { i } })],
			aWriter(),
			{ atomic: false },
		);
	}
	await path.close();
	admin = new Client({ connectionString: database.url });
	await admin.connect();
	// The superuser switches the triggers off, as a tamperer with full rights over the database would.
	await admin.query("SET session_replication_role = replica");
	expect((await verify()).ok).toBe(true);
});

afterEach(async () => {
	await admin.end();
	await database.drop();
});

const verify = () => verifyTrail({ databaseUrl: database.url, secret: testSecret() });

async function problemsAfter(sql: string, values: unknown[] = []): Promise<Problem[]> {
	expect((await admin.query(sql, values)).rowCount).toBeGreaterThan(0);
	const { ok, problems } = await verify();
	expect(ok).toBe(problems.length === 0);
	return problems;
}

/** One event of tenant acme in the middle. */
async function victim() {
	const { rows } = await admin.query(
		`SELECT e.id, e.batch_id, e.ord, m.batch_no FROM audit.events e JOIN audit.manifests m USING (batch_id)
		 WHERE tenant_id = 'acme' AND kind = 1 ORDER BY m.batch_no OFFSET 1 LIMIT 1`,
	);
	return rows[0] as { id: string; batch_id: string; ord: number; batch_no: string };
}

describe("tampering with an event", () => {
	test.each([
		["its time", "occurred_at = occurred_at + interval '1 microsecond'"],
		["the time it was recorded", "recorded_at = recorded_at - interval '1 second'"],
		["its action", "action = 'user.logout'"],
		["its actor", `u_actor = replace(u_actor, 'user-1', 'user-2'), actor_id = 'user-2'`],
		["its facts", `u_facts = replace(u_facts, 'SUCCESS', 'FAILURE'), outcome = 2`],
		["its metadata", `u_metadata = '{"i":7}'`],
		["a unit taken away", "u_metadata = NULL"],
		["a unit put in", `u_description = '"nothing to see"', salts = salts || decode(repeat('00', 16), 'hex')`],
		["a salt", "salts = set_byte(salts, 3, get_byte(salts, 3) # 1)"],
		["its id", "id = 'ffffffff-ffff-4fff-8fff-ffffffffffff', timed = false"],
		["its kind", "kind = 2"],
	])("is found and named: %s", async (_, change) => {
		const { id, batch_id, batch_no, ord } = await victim();
		const problems = await problemsAfter(`UPDATE audit.events SET ${change} WHERE id = $1`, [id]);
		expect(problems[0]).toMatchObject({ tenantId: "acme", batchId: batch_id, batchNo: batch_no, ord });
		expect(problems[0]?.message).toMatch(/altered/);
	});

	test.each([
		["severity", "severity = 5"],
		["source", "source = 'cli'"],
		["actor_id", "actor_id = 'somebody-else'"],
		["resource_id", "resource_id = 'r'"],
		["timed", "timed = NOT timed"],
	])("a filter column that no longer is what was hashed is named: %s", async (column, change) => {
		const { id } = await victim();
		const problems = await problemsAfter(`UPDATE audit.events SET ${change} WHERE id = $1`, [id]);
		const ofEvents = problems.filter(({ message }) => !message.includes("vocabulary"));
		expect(ofEvents).toEqual([expect.objectContaining({ eventId: id, message: expect.stringContaining(column) })]);
	});

	test("the leaf hash beside it, and its content MAC, are checked too", async () => {
		const { id } = await victim();
		const zeros = "decode(repeat('00', 32), 'hex')";
		expect(await problemsAfter(`UPDATE audit.events SET leaf_hash = ${zeros} WHERE id = $1`, [id])).toHaveLength(1);
		expect(await problemsAfter(`UPDATE audit.events SET content_mac = ${zeros} WHERE id = $1`, [id])).toHaveLength(2);
	});

	test.each([
		["its content MAC taken away", "content_mac = NULL"],
		["salts that belong to no unit", "salts = salts || decode(repeat('00', 16), 'hex')"],
		["an action the entry's bytes cannot hold", "action = 'ŵser.login', content_mac = NULL"],
		["a kind the entry's byte cannot hold", "kind = 257"],
		["a time that is none", "recorded_at = 'infinity'"],
		["an unknown hash version", "hv = 2"],
	])("what no writer could have stored is found: %s", async (_, change) => {
		const { id } = await victim();
		const problems = await problemsAfter(`UPDATE audit.events SET ${change} WHERE id = $1`, [id]);
		const ofEvents = problems.filter(({ message }) => !message.includes("vocabulary"));
		expect(ofEvents).toEqual([expect.objectContaining({ eventId: id })]);
	});

	test("moving it to another tenant is found", async () => {
		const { id } = await victim();
		const problems = await problemsAfter("UPDATE audit.events SET tenant_id = 'globex' WHERE id = $1", [id]);
		expect(problems[0]).toMatchObject({ eventId: id, message: expect.stringContaining("acme") });
	});

	test("deleting it is found, with tenant, batch and place", async () => {
		const { id, batch_no, ord } = await victim();
		const problems = await problemsAfter("DELETE FROM audit.events WHERE id = $1", [id]);
		expect(problems).toEqual([
			expect.objectContaining({ tenantId: "acme", batchNo: batch_no, ord, message: "the event's row is gone" }),
		]);
	});

	test("a vocabulary that lacks what searches go by is found", async () => {
		const problems = await problemsAfter("DELETE FROM audit.vocabulary WHERE tenant_id = 'acme'");
		expect(problems.length).toBeGreaterThan(0);
		for (const problem of problems) {
			expect(problem).toMatchObject({ tenantId: "acme", message: expect.stringContaining("vocabulary of 20") });
		}
	});

	test("inserting one is found", async () => {
		const { id } = await victim();
		const problems = await problemsAfter(
			`CREATE TEMP TABLE copy_of AS SELECT * FROM audit.events WHERE id = $1`.replace("$1", `'${id}'`),
		);
		expect(problems).toEqual([]);
		await admin.query("UPDATE copy_of SET id = gen_random_uuid(), ord = ord + 10");
		await admin.query("ALTER TABLE copy_of DROP COLUMN shape");
		expect(await problemsAfter("INSERT INTO audit.events SELECT * FROM copy_of")).toEqual([
			expect.objectContaining({ message: expect.stringContaining("put in afterwards") }),
		]);
	});

	test("altering a row and its leaf together, all the way through the chain, fails on the MAC", async () => {
		const { id, batch_id } = await victim();
		await admin.query("UPDATE audit.events SET leaf_hash = $2 WHERE id = $1", [
			id,
			createHash("sha256").update("x").digest(),
		]);
		const { rows } = await admin.query("SELECT batch_no, batch_id, payload FROM audit.manifests ORDER BY batch_no");
		let chain: Uint8Array = new Uint8Array(32);
		for (const row of rows) {
			let payload: Uint8Array = row.payload;
			if (row.batch_id === batch_id) {
				const runs = decodePayload(payload) ?? [];
				payload = encodePayload(
					runs.map((run) => ({
						...run,
						leafHashes: run.leafHashes.map(() => createHash("sha256").update("x").digest()),
					})),
				);
			}
			const digest = manifestDigest(BigInt(row.batch_id), payload);
			chain = nextChain(BigInt(row.batch_no), chain, digest);
			await admin.query("UPDATE audit.manifests SET payload = $2, digest = $3, chain = $4 WHERE batch_no = $1", [
				row.batch_no,
				payload,
				digest,
				chain,
			]);
		}
		const { problems } = await verify();
		expect(problems.find(({ message }) => message.includes("MAC"))).toMatchObject({ batchId: batch_id });
	});
});

describe("tampering with manifests", () => {
	test("taking one out of the middle is found by its gap", async () => {
		const { batch_id, batch_no } = await victim();
		const problems = await problemsAfter("DELETE FROM audit.manifests WHERE batch_id = $1", [batch_id]);
		expect(problems.map(({ message }) => message).join("\n")).toMatch(`batches ${batch_no} to ${batch_no}`);
		expect(problems.map(({ message }) => message)).toContain("the event's batch has no manifest");
	});

	test("taking a batch out together with its rows, and chaining the rest anew, fails on the MACs", async () => {
		const { batch_id, batch_no } = await victim();
		await admin.query("DELETE FROM audit.events WHERE batch_id = $1", [batch_id]);
		await admin.query("DELETE FROM audit.manifests WHERE batch_id = $1", [batch_id]);
		const { rows } = await admin.query("SELECT batch_no, chain, digest FROM audit.manifests ORDER BY batch_no");
		let chain = rows[Number(batch_no) - 1].chain as Uint8Array;
		for (const row of rows.slice(Number(batch_no))) {
			chain = nextChain(BigInt(row.batch_no) - 1n, chain, row.digest);
			await admin.query("UPDATE audit.manifests SET batch_no = batch_no - 1, chain = $2 WHERE batch_no = $1", [
				row.batch_no,
				chain,
			]);
		}
		const { problems } = await verify();
		expect(problems.length).toBeGreaterThan(0);
		expect(problems.every(({ message }) => message.includes("MAC"))).toBe(true);
	});

	test.each([
		["a batch number below zero", "batch_no = -5"],
		["a batch id below zero", "batch_id = -5"],
		["a chain of another length", "chain = decode(repeat('00', 99), 'hex')"],
		["a digest of another length", "digest = decode(repeat('00', 99), 'hex')"],
	])("values out of range are named, and do not stop the verification: %s", async (_, change) => {
		const { batch_id } = await victim();
		expect(
			(await problemsAfter(`UPDATE audit.manifests SET ${change} WHERE batch_id = $1`, [batch_id])).length,
		).toBeGreaterThan(0);
	});

	test("giving one tenant's log to another is found, though every row and leaf is as it was", async () => {
		await admin.query(
			"UPDATE audit.tenants SET id = CASE id WHEN 'acme' THEN 'x' ELSE 'acme' END WHERE id IN ('acme', 'globex')",
		);
		await admin.query("UPDATE audit.tenants SET id = 'globex' WHERE id = 'x'");
		await admin.query(
			"UPDATE audit.events SET tenant_id = CASE tenant_id WHEN 'acme' THEN 'globex' ELSE 'acme' END, content_mac = NULL WHERE tenant_id IN ('acme', 'globex')",
		);
		const { problems } = await verify();
		expect(problems.filter(({ message }) => message.includes("that of another tenant"))).toHaveLength(2);
	});

	test("a tenant put in afterwards is found", async () => {
		expect(await problemsAfter("INSERT INTO audit.tenants (slot, id, name) VALUES (2, 'late', 'late')")).toEqual([
			expect.objectContaining({ tenantId: "late" }),
		]);
	});

	test.each(["payload", "digest", "chain", "mac"])("altering its %s is found", async (column) => {
		const { batch_id } = await victim();
		const change = `${column} = set_byte(${column}, 20, get_byte(${column}, 20) # 1)`;
		const problems = await problemsAfter(`UPDATE audit.manifests SET ${change} WHERE batch_id = $1`, [batch_id]);
		expect(problems.some((problem) => problem.batchId === batch_id)).toBe(true);
	});

	test("one made by somebody without the secret is found", async () => {
		const { batch_id } = await victim();
		const { rows } = await admin.query("SELECT digest FROM audit.manifests WHERE batch_id = $1", [batch_id]);
		const mac = createHmac("sha256", "another key").update(rows[0].digest).digest();
		expect(
			await problemsAfter("UPDATE audit.manifests SET mac = $2 WHERE batch_id = $1", [batch_id, mac]),
		).toHaveLength(1);
	});

	test("a tenant log that does not begin with audit.log.created is found", async () => {
		const { rows } = await admin.query("SELECT batch_id FROM audit.events WHERE kind = 2 AND tenant_id = 'globex'");
		await admin.query("DELETE FROM audit.events WHERE kind = 2 AND tenant_id = 'globex'");
		const problems = await problemsAfter("DELETE FROM audit.manifests WHERE batch_id = $1", [rows[0].batch_id]);
		expect(problems.map(({ message }) => message)).toContain("the tenant's log does not begin with audit.log.created");
	});
});

describe("the verification itself", () => {
	test("says what it does not prove: the newest batches cut off together with their rows go unseen", async () => {
		await admin.query(
			"DELETE FROM audit.events WHERE batch_id = (SELECT batch_id FROM audit.manifests ORDER BY batch_no DESC LIMIT 1)",
		);
		await admin.query("DELETE FROM audit.manifests WHERE batch_no = (SELECT max(batch_no) FROM audit.manifests)");
		const verification = await verify();
		expect(verification.ok).toBe(true);
		expect(verification.notProven.join(" ")).toMatch(/newest batches/);
	});

	test("with the wrong secret nothing is proven: it throws instead of reporting tampering", async () => {
		await expect(verifyTrail({ databaseUrl: database.url, secret: "y".repeat(40) })).rejects.toThrow();
	});
});
