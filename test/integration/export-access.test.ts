import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MASKABLE_UNITS } from "../../src/auth/principal.ts";
import { type AuditClient, createAuditClient, toAuditError } from "../../src/client/index.ts";
import { COLUMNS } from "../../src/export/columns.ts";
import { ExportFormat } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { exportFile } from "../support/export-file.ts";
import { fillLargeTenant } from "../support/large-tenant.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";

let service: RpcService;
let operator: AuditClient;
let admin: Client;

const clientWith = (key: string) => createAuditClient({ url: service.httpUrl, key, attempts: 1 });
const CANARY = "canary-4711";

beforeAll(async () => {
	service = await startRpcService();
	admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	operator = clientWith(await service.createKey("operator", "all"));
	await operator.writeEvent({
		event: {
			tenantId: "acme",
			action: "user.login",
			outcomeReason: CANARY,
			actor: { id: CANARY, displayName: CANARY, email: CANARY },
			onBehalfOf: [{ id: CANARY }],
			primaryResource: { id: CANARY, type: CANARY, displayName: CANARY, role: CANARY },
			relatedResources: [{ id: CANARY }],
			context: { requestId: CANARY, traceId: CANARY, sessionId: CANARY, location: CANARY, userAgent: CANARY },
			changes: { changedFields: [CANARY] },
			description: CANARY,
			reason: CANARY,
			metadata: { canary: CANARY },
		},
	});
	await fillLargeTenant(operator, "large");
});
afterAll(async () => {
	await admin.end();
	await service.end();
});

describe("what is masked for a key", () => {
	const names = COLUMNS.map(({ name }) => name);

	test.each([...MASKABLE_UNITS.map((unit) => [unit] as const), [...MASKABLE_UNITS]])(
		"is in no cell, and the manifest says which columns are empty for it: %s",
		async (...masked) => {
			const client = clientWith(await service.createKey("exporter", ["acme"], masked));
			for (const format of [ExportFormat.CSV, ExportFormat.NDJSON]) {
				const { text, start, manifest } = await exportFile(client, {
					query: { actions: ["user.login"] },
					format,
					columns: names,
				});
				const empty = COLUMNS.filter(({ unit }) => (masked as string[]).includes(unit)).map(({ name }) => name);
				expect(empty.length).toBeGreaterThan(0);
				expect(start.maskedColumns).toEqual(empty);
				expect(manifest.maskedColumns).toEqual(empty);
				if (masked.length === MASKABLE_UNITS.length) expect(text).not.toContain(CANARY);
				if (format === ExportFormat.CSV) continue;
				const line = JSON.parse(text) as Record<string, unknown>;
				for (const name of names) {
					const isShown = JSON.stringify(line[name]).includes(CANARY);
					if (empty.includes(name)) expect([name, line[name]]).toEqual([name, null]);
					else if (name === "actor_id") expect(isShown).toBe(true);
				}
				const { events } = await client.query({ actions: ["user.login"] });
				const commitments = events[0]?.integrity?.maskedUnits.map(({ commitment }) =>
					Buffer.from(commitment).toString("hex"),
				);
				expect(Object.values(line.masked_units as object)).toEqual(commitments);
				expect(Object.keys(line.masked_units as object)).toEqual(masked);
				expect(Object.values(line.salts as object).join("")).toBe(
					Buffer.from(events[0]?.integrity?.salts ?? []).toString("hex"),
				);
			}
		},
	);

	test("may not be searched by", async () => {
		const client = clientWith(await service.createKey("exporter", ["acme"], ["actor"]));
		const refused = exportFile(client, { query: { actorIds: ["jane"] }, format: ExportFormat.CSV });
		const error = toAuditError((await refused.catch((caught: unknown) => caught)) as Error);
		expect(error).toMatchObject({ code: "permission_denied", reason: "UNIT_MASKED" });
		expect(error.violations.map(({ field }) => field)).toEqual(["query.actor_ids"]);
	});
});

describe("the log says who exported it", () => {
	interface Told {
		readonly action: string;
		readonly metadata: Record<string, unknown>;
	}

	async function toldOf(key: string): Promise<Told[]> {
		const { rows } = await admin.query<Told>(
			`SELECT action, u_metadata::jsonb AS metadata FROM audit.events
			 WHERE action LIKE 'audit.read%' AND actor_id = $1 ORDER BY recorded_at, batch_id, ord`,
			[key.split("_")[1]],
		);
		return rows;
	}

	test("before the first byte, and at its end how much that was: each export by itself", async () => {
		const key = await service.createKey("exporter", ["large"]);
		const request = { format: ExportFormat.CSV, columns: ["id"] };
		const stream = clientWith(key).export(request)[Symbol.asyncIterator]();
		expect((await stream.next()).value.part.case).toBe("start");
		const [begun] = await toldOf(key);
		expect(begun).toEqual({
			action: "audit.read",
			metadata: {
				method: "Export",
				protocol: "connect",
				filter: {},
				format: "EXPORT_FORMAT_CSV",
				up_to_batch: expect.any(Number),
			},
		});
		let events = 0n;
		for (let next = await stream.next(); !next.done; next = await stream.next()) {
			if (next.value.part.case === "manifest") events = next.value.part.value.events;
		}
		await exportFile(clientWith(key), request);
		const told = await waitFor(async () => {
			const all = await toldOf(key);
			return all.length === 4 ? all : undefined;
		});
		expect(told.filter(({ action }) => action === "audit.read")).toHaveLength(2);
		const summaries = told.filter(({ action }) => action === "audit.read.summary");
		expect(summaries.map(({ metadata }) => [metadata.reads, metadata.returned])).toEqual([
			[1, Number(events)],
			[1, Number(events)],
		]);
	});

	test("one that broke off by what was given, and the rest by what that has", async () => {
		const key = await service.createKey("exporter", ["large"]);
		const leaving = new AbortController();
		let [given, token] = [0, ""];
		const reading = async () => {
			for await (const { part } of clientWith(key).export({ format: ExportFormat.CSV }, { signal: leaving.signal })) {
				if (part.case !== "chunk" || part.value.resumeToken === "" || part.value.events === 0n) continue;
				[given, token] = [Number(part.value.events), part.value.resumeToken];
				leaving.abort();
			}
		};
		await expect(reading()).rejects.toThrow();
		const summary = () => toldOf(key).then((told) => told.filter(({ action }) => action === "audit.read.summary"));
		const [first] = await waitFor(async () => ((await summary()).length === 1 ? summary() : undefined));
		// What was under way when the caller left counts as given.
		expect(first?.metadata.returned).toBeGreaterThanOrEqual(given);
		const { manifest } = await exportFile(clientWith(key), { format: ExportFormat.CSV, resumeToken: token });
		expect(first?.metadata.returned).toBeLessThan(Number(manifest.events));
		const [, second] = await waitFor(async () => ((await summary()).length === 2 ? summary() : undefined));
		expect(second?.metadata.returned).toBe(Number(manifest.events) - given);
		const resumed = (await toldOf(key)).find(({ metadata }) => metadata.resumed_after !== undefined);
		expect(resumed?.metadata.resumed_after).toBe(given);
	});
});
