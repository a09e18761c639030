import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { equals, fromBinary, fromJsonString, type MessageInitShape } from "@bufbuild/protobuf";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditClient, createAuditClient, toAuditError } from "../../src/client/index.ts";
import { type CellType, COLUMNS } from "../../src/export/columns.ts";
import {
	BatchWriteMode,
	ExportCompression,
	ExportFormat,
	ExportManifestSchema,
	type QueryRequestSchema,
} from "../../src/gen/audit/v1/audit_service_pb.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { exportFile } from "../support/export-file.ts";
import { goodEvents } from "../support/good-events.ts";
import { readParquet } from "../support/read-parquet.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { waitFor } from "../support/services.ts";

/** Parquet as Export gives it, read by DuckDB, and held against the other formats. */

let service: RpcService;
let client: AuditClient;

type Init = MessageInitShape<typeof EventSchema>;

const CORPUS = join(import.meta.dirname, "../corpus/v1");

beforeAll(async () => {
	service = await startRpcService();
	const key = await service.createKey("operator", "all");
	client = createAuditClient({ url: service.httpUrl, key, attempts: 1 });
	const fromCorpus = readdirSync(CORPUS).map((file) => {
		const { input } = JSON.parse(readFileSync(join(CORPUS, file), "utf8")) as { input: string };
		return { ...fromBinary(EventSchema, Buffer.from(input, "base64")), tenantId: "corpus" };
	});
	for (const event of fromCorpus) await client.writeEvent({ event });
	await write("corpus", fc.sample(goodEvents(), { numRuns: 300, seed: 1 }));
	await write(
		"many",
		Array.from({ length: 16_000 }, (_, n): Init => ({ action: "user.login", actor: { id: `u${n}` } })),
	);
	const real = ["import", "--format", "cloudtrail", "--tenant", "cloud", "test/fixtures/cloudtrail.ndjson.gz"];
	expect((await runCli(real, { AUDIT_URL: service.httpUrl, AUDIT_KEY: key })).exitCode).toBe(0);
});
afterAll(() => service.end());

async function write(tenantId: string, events: readonly Init[]): Promise<void> {
	for (let at = 0; at < events.length; at += 1_000) {
		const some = events.slice(at, at + 1_000).map((event) => ({ ...event, tenantId }));
		const { results } = await client.batchWrite({ events: some, mode: BatchWriteMode.ATOMIC });
		expect(results.every(({ result }) => result.case === "written")).toBe(true);
	}
}

const everyColumn = COLUMNS.map(({ name }) => name);

async function parquetOf(query: MessageInitShape<typeof QueryRequestSchema>, columns: string[] = everyColumn) {
	const file = await exportFile(client, { query, format: ExportFormat.PARQUET, columns });
	return { ...file, read: await readParquet(file.bytes) };
}

const TYPES: Record<CellType, string> = {
	text: "VARCHAR",
	hex: "VARCHAR",
	uuid: "UUID",
	json: "JSON",
	integer: "BIGINT",
	bigint: "BIGINT",
	timestamp: "TIMESTAMP WITH TIME ZONE",
};

/** What DuckDB gives for a cell of NDJSON. */
function asRead(type: CellType, cell: unknown): string | null {
	if (cell === null) return null;
	if (type !== "timestamp") return String(cell as string | number);
	const [, whole, micros] = /^(.{19})\.(\d{6})Z$/.exec(cell as string) ?? [];
	return `${Date.parse(`${whole}Z`) / 1000}${micros}`;
}

describe.each(["corpus", "cloud"])("of the tenant %s", (tenantId) => {
	test("every cell is that of NDJSON, and of CSV where it is JSON, in the same order", {
		timeout: 240_000,
	}, async () => {
		const query = { tenantId, actions: ["*"] };
		const { read, manifest } = await parquetOf(query);
		const ndjson = await exportFile(client, { query, format: ExportFormat.NDJSON, columns: everyColumn });
		const lines = ndjson.text
			.trimEnd()
			.split("\n")
			.map((line) => JSON.parse(line) as Record<string, unknown>);
		const csv = await exportFile(client, { query, format: ExportFormat.CSV, columns: everyColumn });
		const records: Record<string, string>[] = parse(csv.text, { columns: true });
		expect(read.rows).toHaveLength(lines.length);
		expect(manifest.events).toBe(BigInt(lines.length));
		for (const [i, row] of read.rows.entries()) {
			const [line, record] = [lines[i], records[i]];
			const wanted = COLUMNS.map(({ name, type }) => {
				if (type === "json") return [name, line?.[name] === null ? null : record?.[name]];
				return [name, asRead(type, line?.[name])];
			});
			expect(row).toEqual(Object.fromEntries(wanted));
		}
	});
});

describe("the file", () => {
	test("has the columns in their order, of the types they have", async () => {
		const { columns, logicalTypes } = (await parquetOf({ tenantId: "corpus" })).read;
		expect(columns).toEqual(COLUMNS.map(({ name, type }) => [name, TYPES[type]]));
		expect(logicalTypes["occurred_at"]).toMatch(/isAdjustedToUTC=1.*MICROS=MicroSeconds/);
	});

	test("has the columns that are asked for", async () => {
		const { columns } = (await parquetOf({ tenantId: "corpus" }, ["action", "id"])).read;
		expect(columns.map(([name]) => name)).toEqual(["action", "id"]);
	});

	test("is downloaded by REST, too", async () => {
		const key = await service.createKey("exporter", ["corpus"]);
		const answer = await fetch(`${service.httpUrl}/v1/audit/events:export?format=parquet&columns=id&columns=action`, {
			headers: { authorization: `Bearer ${key}` },
		});
		expect(answer.status).toBe(200);
		expect(answer.headers.get("content-type")).toBe("application/vnd.apache.parquet");
		expect(answer.headers.get("content-disposition")).toMatch(/corpus-\d{8}T\d{6}Z\.parquet/);
		const { rows } = await readParquet(new Uint8Array(await answer.arrayBuffer()));
		expect(rows).toEqual((await parquetOf({ tenantId: "corpus" }, ["id", "action"])).read.rows);
	});

	test("has several row groups where there are many events", async () => {
		const query = { tenantId: "many", actions: ["user.login"] };
		const { rowGroups, rows } = (await parquetOf(query, ["actor_id", "id"])).read;
		expect(rowGroups.length).toBeGreaterThan(1);
		for (const group of rowGroups) expect(group.rows).toBeLessThanOrEqual(14_000);
		const csv = await exportFile(client, { query, format: ExportFormat.CSV, columns: ["actor_id", "id"] });
		const lines = rows.map((row) => `${row["actor_id"]},${row["id"]}\r\n`);
		expect(`actor_id,id\r\n${lines.join("")}`).toBe(csv.text);
		expect(rows).toHaveLength(16_000);
	});

	test("is one without rows where nothing is found", async () => {
		const { read, manifest } = await parquetOf({ tenantId: "corpus", actions: ["nobody.did_this"] });
		expect(read.rows).toEqual([]);
		expect(read.columns).toHaveLength(COLUMNS.length);
		expect(manifest.events).toBe(0n);
	});

	test("is what its manifest says, which its own footer has, too", async () => {
		const { bytes, manifest, read, chunks } = await parquetOf({ tenantId: "corpus", actions: ["user.*"] });
		expect(createHash("sha256").update(bytes).digest()).toEqual(Buffer.from(manifest.sha256));
		expect(manifest.bytes).toBe(BigInt(bytes.byteLength));
		expect(chunks.at(-1)?.events).toBe(manifest.events);
		const own = fromJsonString(ExportManifestSchema, read.metadata["auditlog.manifest"] ?? "");
		const unknown = { bytes: 0n, sha256: own.sha256, contentBytes: 0n, contentSha256: own.contentSha256 };
		expect(equals(ExportManifestSchema, own, { ...manifest, ...unknown })).toBe(true);
		expect(own.sha256).toHaveLength(0);
		expect(own.events).toBe(BigInt(read.rows.length));
		expect(own.request?.query?.actions).toEqual(["user.*"]);
		expect(own.point?.batchNo).toBe(manifest.point?.batchNo);
	});

	test("has nothing in the columns of units that are masked, and the types they have for others", async () => {
		const key = await service.createKey("exporter", ["corpus"], ["actor", "metadata"]);
		const masked = createAuditClient({ url: service.httpUrl, key, attempts: 1 });
		const request = { format: ExportFormat.PARQUET, columns: everyColumn };
		const { bytes, manifest } = await exportFile(masked, request);
		const read = await readParquet(bytes);
		const all = (await parquetOf({ tenantId: "corpus" })).read;
		expect(read.columns).toEqual(all.columns);
		const names = COLUMNS.filter(({ unit }) => unit === "actor" || unit === "metadata").map(({ name }) => name);
		expect(manifest.maskedColumns).toEqual(names);
		for (const name of names) {
			expect(read.rows.map((row) => row[name])).toEqual(read.rows.map(() => null));
			expect(all.rows.some((row) => row[name] !== null)).toBe(true);
		}
		expect(read.rows.every((row) => row["masked_units"]?.includes('"actor":"'))).toBe(true);
	});
});

describe("what cannot be", () => {
	const refusal = (request: Parameters<typeof exportFile>[1]) =>
		exportFile(client, request).then(
			() => expect.fail("it was not refused"),
			(error: unknown) => toAuditError(error),
		);

	test.each([ExportCompression.GZIP, ExportCompression.ZSTD])(
		"compression %d of the whole file is refused: what is in it is compressed",
		async (compression) => {
			const { code, violations } = await refusal({
				query: { tenantId: "corpus" },
				format: ExportFormat.PARQUET,
				compression,
			});
			expect(code).toBe("invalid_argument");
			expect(violations.map(({ field }) => field)).toEqual(["compression"]);
		},
	);

	test("no token is given to go on with: a file of which one has the beginning is begun again", async () => {
		const { start, chunks } = await parquetOf({ tenantId: "many" });
		expect([start, ...chunks].map(({ resumeToken }) => resumeToken).filter(Boolean)).toEqual([]);
	});
});

test("a caller who leaves in the middle leaves no thread behind", async () => {
	const threads = () => readdirSync("/proc/self/task").length;
	const before = threads();
	for (let n = 0; n < 3; n += 1) {
		const leaving = new AbortController();
		const request = { query: { tenantId: "many" }, format: ExportFormat.PARQUET };
		const left = async () => {
			for await (const { part } of client.export(request, { signal: leaving.signal })) {
				if (part.case === "chunk") leaving.abort();
			}
		};
		await expect(left()).rejects.toThrow("canceled");
	}
	await waitFor(() => threads() <= before, { what: "the threads to end" });
});
