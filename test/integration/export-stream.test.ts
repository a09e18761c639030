import { createHash, randomUUID } from "node:crypto";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditClient, createAuditClient, createTenantClient, toAuditError } from "../../src/client/index.ts";
import {
	AuditService,
	ExportCompression,
	ExportFormat,
	type ExportManifest,
	type ExportRequestSchema,
	type ExportResponse,
	Order,
} from "../../src/gen/audit/v1/audit_service_pb.ts";
import { checkTrail } from "../support/check-trail.ts";
import { exportFile } from "../support/export-file.ts";
import { fillLargeTenant, LARGE } from "../support/large-tenant.ts";
import { type RpcService, startRpcService, startServiceOn } from "../support/rpc-service.ts";
import { testSecret, waitFor } from "../support/services.ts";

let service: RpcService;
let client: AuditClient;
let key: string;
let admin: Client;

type Part = ExportResponse["part"];
type Request = MessageInitShape<typeof ExportRequestSchema>;
const MEDIUM_LOG: Request = { query: { tenantId: "medium", actions: ["file.read"] }, format: ExportFormat.NDJSON };
const LARGE_LOG: Request = { query: { tenantId: "large", actions: ["file.read"] }, format: ExportFormat.NDJSON };

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
	client = createAuditClient({ url: service.httpUrl, key, attempts: 1 });
	admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	await fillLargeTenant(client, "large");
	await fillLargeTenant(client, "medium", { events: 120, bytes: 40_000 });
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await admin.end();
	await service.end();
});

const PROTOCOLS: Record<string, (baseUrl: string) => Transport> = {
	"Connect over HTTP/1.1": (baseUrl) =>
		createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors: [sendKey] }),
	Connect: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", interceptors: [sendKey] }),
	gRPC: (baseUrl) => createGrpcTransport({ baseUrl, interceptors: [sendKey] }),
	"gRPC-Web": (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1", interceptors: [sendKey] }),
};
const sendKey: Interceptor = (next) => (request) => {
	request.header.set("authorization", `Bearer ${key}`);
	return next(request);
};
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const idsIn = (text: string) =>
	text
		.split("\n")
		.filter(Boolean)
		.map((line) => (JSON.parse(line) as { id: string }).id);
const reasonOf = async (work: Promise<unknown>) =>
	work.then(
		() => "none",
		(error: unknown) => toAuditError(error).reason,
	);

/** Statements that exports are running in the service's database. */
async function running(): Promise<number> {
	const { rows } = await admin.query<{ n: number }>(
		`SELECT count(*)::int AS n FROM pg_stat_activity
		 WHERE datname = current_database() AND usename = 'audit_reader' AND state <> 'idle' AND query LIKE '%salts_hex%'`,
	);
	return rows[0]?.n ?? -1;
}

test.each(Object.keys(PROTOCOLS))("%s gives the whole file, on the port for everything", async (protocol) => {
	const file = await exportFile(createClient(AuditService, open(protocol)), LARGE_LOG);
	expect(new Set(idsIn(file.text)).size).toBe(LARGE);
	expect(sha256(file.bytes)).toBe(Buffer.from(file.manifest.sha256).toString("hex"));
	expect(file.manifest.point?.batchNo).toBe(file.start.point?.batchNo);
	for (const { data } of file.chunks) expect(data.length).toBeLessThanOrEqual(512 * 1024);
});

test("gRPC gives it on the port for RPCs", async () => {
	const grpc = createClient(AuditService, createGrpcTransport({ baseUrl: service.grpcUrl, interceptors: [sendKey] }));
	expect((await exportFile(grpc, LARGE_LOG)).manifest.events).toBe(BigInt(LARGE));
});

test("no message is compressed for a client that only takes that", async () => {
	const request = Buffer.from(JSON.stringify({ query: { tenant_id: "medium" }, format: "EXPORT_FORMAT_CSV" }));
	const prefix = Buffer.alloc(5);
	prefix.writeUInt32BE(request.length, 1);
	const answer = await fetch(`${service.httpUrl}/audit.v1.AuditService/Export`, {
		method: "POST",
		headers: {
			authorization: `Bearer ${key}`,
			"content-type": "application/connect+json",
			"connect-accept-encoding": "gzip",
		},
		body: Buffer.concat([prefix, request]),
	});
	const bytes = Buffer.from(await answer.arrayBuffer());
	const flags: number[] = [];
	for (let at = 0; at < bytes.length; at += 5 + bytes.readUInt32BE(at + 1)) flags.push(bytes.readUInt8(at));
	expect(bytes.length).toBeGreaterThan(1_000_000);
	expect(flags.at(-1)).toBe(2);
	expect(new Set(flags.slice(0, -1))).toEqual(new Set([0]));
});

function open(protocol: string): Transport {
	return (PROTOCOLS[protocol] as (baseUrl: string) => Transport)(service.httpUrl);
}

/** Takes the stream until it has some events. */
async function takeSome(stream: AsyncIterator<ExportResponse>): Promise<Buffer[]> {
	const taken: Buffer[] = [];
	for (;;) {
		const { value, done } = (await stream.next()) as IteratorResult<ExportResponse, undefined>;
		if (done) throw new Error("it ended early");
		const part: Part = value.part;
		if (part.case === "manifest") throw new Error("it ended early");
		if (part.case !== "chunk") continue;
		taken.push(Buffer.from(part.value.data));
		if (part.value.events > 0n) return taken;
	}
}

describe("a file is of one point", () => {
	test.each([Order.NEWEST_FIRST, Order.OLDEST_FIRST])(
		"what is written meanwhile is not in it, wherever in the order it belongs (%s)",
		async (order) => {
			const before = idsIn((await exportFile(client, LARGE_LOG)).text);
			const request = { ...LARGE_LOG, query: { tenantId: "large", actions: ["file.read"], order } };
			const stream = client.export(request)[Symbol.asyncIterator]();
			const taken = await takeSome(stream);
			const now = BigInt(Math.floor(Date.now() / 1000));
			const events = [-70n, -40n, -1n, 0n, 0n, 1n].map((days) => ({
				tenantId: "large",
				id: randomUUID(),
				action: "file.read",
				actor: { id: "late" },
				occurredAt: { seconds: now + days * 86_400n - 3_600n },
			}));
			await client.batchWrite({ events });
			let manifest: ExportManifest | undefined;
			for (let next = await stream.next(); !next.done; next = await stream.next()) {
				const { part } = next.value;
				if (part.case === "chunk") taken.push(Buffer.from(part.value.data));
				if (part.case === "manifest") manifest = part.value;
			}
			expect(idsIn(Buffer.concat(taken).toString()).toSorted()).toEqual(before.toSorted());
			expect(manifest?.events).toBe(BigInt(before.length));
			expect(idsIn((await exportFile(client, LARGE_LOG)).text)).toHaveLength(before.length + events.length);
		},
	);

	test("the point is the newest link of the chain", async () => {
		const newest = "SELECT batch_no, chain FROM audit.manifests ORDER BY batch_no DESC LIMIT 1";
		const before = (await admin.query<{ batch_no: string }>(newest)).rows[0];
		const { point } = (await exportFile(client, { ...LARGE_LOG, columns: ["id"] })).start;
		const { rows } = await admin.query("SELECT chain FROM audit.manifests WHERE batch_no = $1", [point?.batchNo]);
		expect(point?.batchNo).toBeGreaterThanOrEqual(BigInt(before?.batch_no ?? -1));
		expect(rows).toEqual([{ chain: Buffer.from(point?.chain ?? []) }]);
	});
});

describe("one that broke off is gone on with", () => {
	/** Reads a file in several goes, each cut off in the middle. */
	async function inParts(request: Request, cuts: readonly number[]) {
		let [bytes, token] = [Buffer.alloc(0), ""];
		const joints: number[] = [];
		for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
			let chunks = 0;
			const leaving = new AbortController();
			for await (const { part } of client.export({ ...request, resumeToken: token }, { signal: leaving.signal })) {
				if (part.case === "manifest") return { bytes, joints, manifest: part.value };
				if (part.case === "start" && token !== "") expect(part.value.offset).toBe(BigInt(bytes.length));
				if (part.case !== "chunk") continue;
				bytes = Buffer.concat([bytes, part.value.data]);
				expect(part.value.offset).toBe(BigInt(bytes.length));
				if (part.value.resumeToken === "") continue;
				token = part.value.resumeToken;
				chunks += 1;
				if (chunks >= cut) break;
			}
			leaving.abort();
			joints.push(bytes.length);
		}
		throw new Error("it ended without a manifest");
	}

	test.each([
		["CSV", ExportFormat.CSV, ExportCompression.NONE],
		["NDJSON", ExportFormat.NDJSON, ExportCompression.NONE],
		["CSV in gzip", ExportFormat.CSV, ExportCompression.GZIP],
		["NDJSON in zstd", ExportFormat.NDJSON, ExportCompression.ZSTD],
	])("and %s is the same file in the end", async (_, format, compression) => {
		const request = { ...MEDIUM_LOG, format };
		const whole = await exportFile(client, request);
		for (const cuts of [[1], [1, 1, 1], [2, 1], [4]]) {
			const { bytes, joints, manifest } = await inParts({ ...request, compression }, cuts);
			expect(sha256(bytes)).toBe(Buffer.from(manifest.sha256).toString("hex"));
			expect(manifest).toMatchObject({
				events: whole.manifest.events,
				resumed: cuts.length,
				contentBytes: whole.manifest.bytes,
				contentSha256: whole.manifest.sha256,
			});
			expect(decompressed(bytes, joints, compression).equals(whole.bytes)).toBe(true);
			// What the last token knows nothing of has no part in it.
			await client.writeEvent({ event: { tenantId: "other", action: "file.read", actor: { id: "x" } } });
		}
	});

	/** Node reads one frame of zstd: each is begun where the file was gone on with, after the three bytes that end the one before. */
	function decompressed(bytes: Buffer, joints: readonly number[], compression: ExportCompression): Buffer {
		if (compression === ExportCompression.NONE) return bytes;
		if (compression === ExportCompression.GZIP) return gunzipSync(bytes);
		const begins = [0, ...joints.map((joint) => joint + 3)];
		return Buffer.concat(
			begins.map((begin, i) => zstdDecompressSync(bytes.subarray(begin, begins[i + 1] ?? bytes.length))),
		);
	}

	test("at another replica, after the first was stopped", async () => {
		const first = await startServiceOn(service.database.url);
		const there = createAuditClient({ url: first.httpUrl, key, attempts: 1 });
		const stream = there.export({ ...LARGE_LOG, format: ExportFormat.CSV })[Symbol.asyncIterator]();
		let [bytes, token, kept] = [Buffer.alloc(0), "", 0];
		const read = async () => {
			for (let next = await stream.next(); !next.done; next = await stream.next()) {
				const { part } = next.value;
				if (part.case === "manifest") throw new Error("it ended before the service did");
				if (part.case !== "chunk") continue;
				bytes = Buffer.concat([bytes, part.value.data]);
				if (part.value.resumeToken === "") continue;
				[token, kept] = [part.value.resumeToken, bytes.length];
				if (part.value.events > 0n) return;
			}
		};
		await read();
		const closed = first.close();
		await expect(
			(async () => {
				for (;;) await read();
			})(),
		).rejects.toMatchObject({ rawMessage: "the service is going away; go on with another one" });
		await closed;
		const rest = await exportFile(client, { ...LARGE_LOG, format: ExportFormat.CSV, resumeToken: token });
		const joined = Buffer.concat([bytes.subarray(0, kept), rest.bytes]);
		expect(sha256(joined)).toBe(Buffer.from(rest.manifest.sha256).toString("hex"));
		expect(rest.manifest.resumed).toBe(1);
	});

	test("a token is of one export alone", async () => {
		const request = { ...MEDIUM_LOG, columns: ["id", "action"] };
		const token =
			(await exportFile(client, request)).chunks.findLast(({ resumeToken }) => resumeToken)?.resumeToken ?? "";
		expect(await reasonOf(exportFile(client, { ...request, resumeToken: token }))).toBe("none");
		const query = { tenantId: "medium", actions: ["file.read"] };
		const masked = createAuditClient({
			url: service.httpUrl,
			key: await service.createKey("exporter", ["medium"], ["actor"]),
			attempts: 1,
		});
		const others: [AuditClient, Request][] = [
			[client, { ...request, query: { ...query, tenantId: "other" } }],
			[client, { ...request, query: { ...query, actions: ["file.*"] } }],
			[client, { ...request, query: { ...query, order: Order.OLDEST_FIRST } }],
			[client, { ...request, format: ExportFormat.CSV }],
			[client, { ...request, compression: ExportCompression.GZIP }],
			[client, { ...request, columns: ["action", "id"] }],
			[masked, request],
		];
		for (const [who, other] of others) {
			expect(await reasonOf(exportFile(who, { ...other, resumeToken: token }))).toBe("INVALID_RESUME_TOKEN");
		}
		for (const at of [0, 1, 20, 100, 200, 350]) {
			const forged = Buffer.from(token, "base64url");
			forged[at] = (forged[at] ?? 0) ^ 1;
			const resumeToken = forged.toString("base64url");
			expect(await reasonOf(exportFile(client, { ...request, resumeToken }))).toBe("INVALID_RESUME_TOKEN");
		}
	});
});

describe("an end before the end", () => {
	test.each(Object.keys(PROTOCOLS))("by its caller over %s leaves nothing behind", async (protocol) => {
		const exporter = createClient(AuditService, open(protocol));
		for (let i = 0; i < 10; i += 1) {
			const leaving = new AbortController();
			const begin = async () => {
				const stream = exporter.export(LARGE_LOG, { signal: leaving.signal })[Symbol.asyncIterator]();
				await takeSome(stream);
				return stream;
			};
			// Ten of one key, of which eight may be open.
			const stream = await waitFor(begin, { what: "room for another export" });
			leaving.abort();
			await expect(takeSome(stream)).rejects.toThrow();
		}
		await waitFor(async () => (await running()) === 0, { what: "the end of all statements" });
	});

	test("stops a statement that is under way", async () => {
		const leaving = new AbortController();
		const stream = client.export(LARGE_LOG, { signal: leaving.signal })[Symbol.asyncIterator]();
		await takeSome(stream);
		// Nobody reads events while this is held: the export's next statement waits.
		await admin.query("BEGIN; LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE");
		try {
			const taken = (async () => {
				for (;;) await takeSome(stream);
			})();
			taken.catch(() => {});
			const other = new Client({ connectionString: service.database.url });
			await other.connect();
			const waiting = async () =>
				(
					await other.query(
						"SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = 'audit_reader' AND wait_event_type = 'Lock'",
					)
				).rowCount;
			await waitFor(async () => (await waiting()) === 1, { what: "a statement that waits" });
			leaving.abort();
			await waitFor(async () => (await waiting()) === 0, { what: "the end of the statement", deadlineMs: 4_000 });
			await other.end();
		} finally {
			await admin.query("ROLLBACK");
		}
	});

	test("by its tenant being disabled", async () => {
		const tenants = createTenantClient({ url: service.httpUrl, key });
		const mine = createAuditClient({ url: service.httpUrl, key: await service.createKey("exporter", ["large"]) });
		const stream = mine.export(LARGE_LOG)[Symbol.asyncIterator]();
		await takeSome(stream);
		await tenants.disableTenant({ id: "large", reason: "a test" });
		try {
			await expect(
				(async () => {
					for (;;) await takeSome(stream);
				})(),
			).rejects.toMatchObject({ rawMessage: expect.stringContaining("the tenant is disabled") });
		} finally {
			await tenants.enableTenant({ id: "large", reason: "a test" });
		}
	});
});
