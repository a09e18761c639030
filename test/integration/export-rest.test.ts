import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { connect as connectHttp2, constants } from "node:http2";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { REVOKED_WITHIN_MS } from "../../src/auth/api-key-verifier.ts";
import { createAuditClient } from "../../src/client/index.ts";
import { exportFile } from "../support/export-file.ts";
import { fillLargeTenant, LARGE } from "../support/large-tenant.ts";
import { type RpcService, startRpcService, startServiceOn } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";

let service: RpcService;
let key: string;
let admin: Client;

beforeAll(async () => {
	service = await startRpcService();
	admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	key = await service.createKey("operator", "all");
	const client = createAuditClient({ url: service.httpUrl, key });
	const event = { tenantId: "acme", action: "user.login", actor: { id: "jane" } };
	await client.batchWrite({ events: Array.from({ length: 3 }, () => event) });
	await fillLargeTenant(client, "large");
});
afterAll(async () => {
	await admin.end();
	await service.end();
});

/** Asks over HTTP/1.1, where Node shows trailers. */
async function get(
	params: string,
	bearer = key,
	method = "GET",
): Promise<{ answer: IncomingMessage; sent: ClientRequest }> {
	const sent = httpRequest(`${service.httpUrl}/v1/audit/events:export?${params}`, {
		method,
		headers: { authorization: `Bearer ${bearer}` },
	});
	sent.end();
	const [answer] = (await once(sent, "response")) as [IncomingMessage];
	return { answer, sent };
}

test.each(["csv", "ndjson"])("a download of %s is the file of the RPC, with its sums as trailers", async (format) => {
	const { answer } = await get(`tenant_id=acme&actions=user.*&format=${format}`);
	const bytes = await buffer(answer);
	const client = createAuditClient({ url: service.httpUrl, key });
	const query = { tenantId: "acme", actions: ["user.*"] };
	const file = await exportFile(client, { query, format: format === "csv" ? 1 : 2 });
	expect(bytes.toString()).toBe(file.text);
	expect(answer.headers).toMatchObject({
		"content-type": file.start.mediaType,
		"content-disposition": expect.stringMatching(
			new RegExp(`^attachment; filename="acme-\\d{8}T\\d{6}Z\\.${format}"$`),
		),
		"audit-export-batch-no": expect.stringMatching(/^\d+$/),
		"audit-export-committed-at": expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/),
		"audit-export-chain": expect.stringMatching(/^[0-9a-f]{64}$/),
	});
	expect(answer.trailers).toEqual({
		"audit-export-events": "3",
		"audit-export-bytes": String(bytes.length),
		"audit-export-sha256": createHash("sha256").update(bytes).digest("hex"),
		"audit-export-content-bytes": String(bytes.length),
		"audit-export-content-sha256": createHash("sha256").update(bytes).digest("hex"),
	});
});

test("over HTTP/2 likewise, and compressed", async () => {
	const session = connectHttp2(service.httpUrl);
	const stream = session.request({
		":path":
			"/v1/audit/events:export?tenant_id=acme&format=csv&compression=gzip&columns=action&columns=id&actions=user.login",
		authorization: `Bearer ${key}`,
	});
	let trailers: Record<string, unknown> = {};
	stream.on("trailers", (found) => {
		trailers = found;
	});
	const bytes = await buffer(stream);
	session.close();
	expect(gunzipSync(bytes).toString()).toMatch(/^action,id\r\n(user\.login,[0-9a-f-]{36}\r\n){3}$/);
	expect(trailers).toMatchObject({ "audit-export-sha256": createHash("sha256").update(bytes).digest("hex") });
});

test("the same file can be had again, whatever was written meanwhile", async () => {
	const first = await get("tenant_id=acme&format=ndjson&include_reads=true");
	const bytes = await buffer(first.answer);
	await createAuditClient({ url: service.httpUrl, key }).writeEvent({
		event: { tenantId: "acme", action: "user.logout", actor: { id: "jane" } },
	});
	const token = String(first.answer.headers["audit-export-resume-token"]);
	const again = await get(`tenant_id=acme&format=ndjson&include_reads=true&resume_token=${token}`);
	expect((await buffer(again.answer)).equals(bytes)).toBe(true);
	expect(again.answer.trailers).toEqual(first.answer.trailers);
});

test.each([
	["tenant_id=acme", "format", "must be one of EXPORT_FORMAT_CSV, EXPORT_FORMAT_NDJSON"],
	["tenant_id=acme&format=xls", "format", "must be one of"],
	["tenant_id=acme&format=csv&page_size=5", "page_size", "is not a parameter"],
	["tenant_id=acme&format=csv&page_token=x", "page_token", "is not a parameter"],
	["tenant_id=acme&format=csv&columns=secret", "columns[0]", "is not a column"],
	["tenant_id=acme&format=csv&columns=id&columns=id", "columns[1]", "is named before"],
	["tenant_id=acme&format=ndjson&csv_bom=true", "csv_bom", "is for EXPORT_FORMAT_CSV alone"],
	["tenant_id=acme&format=csv&ids=x", "ids[0]", "must be a UUID"],
	["tenant_id=acme&format=csv&resume_token=x", "resume_token", "is not the resume_token"],
	["tenant_id=a%20b&format=csv", "tenant_id", "must be 1 to 128"],
	["format=csv", "tenant_id", "is required"],
])("%s is refused, and says why", async (params, field, message) => {
	const { answer } = await get(params);
	const { error } = JSON.parse((await buffer(answer)).toString()) as {
		error: { code: string; message: string; violations: { field: string; message: string }[] };
	};
	expect([answer.statusCode, error.code]).toEqual([400, "invalid_argument"]);
	const found = error.violations.find((violation) => violation.field === field);
	expect(found?.message).toContain(message);
	expect(error.message).not.toContain("query.");
});

test.each(["HTTP/1.1", "HTTP/2"])(
	"a download over %s that breaks off can be told from one that is whole",
	async (version) => {
		const other = await startServiceOn(service.database.url);
		const path = "/v1/audit/events:export?tenant_id=large&format=ndjson";
		const headers = { authorization: `Bearer ${key}` };
		const session = version === "HTTP/2" ? connectHttp2(other.httpUrl) : undefined;
		const answer = session
			? session.request({ ":path": path, ...headers })
			: ((await once(httpRequest(`${other.httpUrl}${path}`, { headers }).end(), "response"))[0] as IncomingMessage);
		let trailers = 0;
		answer.on("trailers", () => (trailers += 1));
		await once(answer, "readable");
		await Promise.all([other.close(), expect(buffer(answer)).rejects.toThrow()]);
		expect(trailers).toBe(0);
		session?.destroy();
	},
);

test("ends when its key is revoked, however slowly it is read", { timeout: 90_000 }, async () => {
	const revoked = await service.createKey("exporter", ["large"]);
	const { answer } = await get("format=ndjson", revoked);
	let bytes = 0;
	const broken = once(answer, "error");
	await admin.query("SELECT audit.revoke_api_key($1)", [revoked.split("_")[1]]);
	await waitFor(
		() => {
			bytes += (answer.read(16_384) as Buffer | null)?.length ?? 0;
			return answer.destroyed;
		},
		{ intervalMs: 50, deadlineMs: REVOKED_WITHIN_MS + 30_000, what: "the end of the download" },
	);
	expect(await broken).toMatchObject([{ code: "ECONNRESET" }]);
	expect(answer.complete).toBe(false);
	expect(bytes).toBeLessThan(LARGE * 100_000);
});

test("takes a place among the streams of its key, and gives it back", async () => {
	const mine = await service.createKey("exporter", ["large"]);
	const open = await Promise.all(Array.from({ length: 8 }, () => get("format=csv", mine)));
	const refused = await get("format=csv", mine);
	expect(refused.answer.statusCode).toBe(429);
	expect((await buffer(refused.answer)).toString()).toContain("TOO_MANY_EXPORTS");
	for (const { sent, answer } of open) {
		answer.on("error", () => {});
		sent.destroy();
	}
	await waitFor(async () => {
		const { answer, sent } = await get("format=csv&actions=nothing", mine);
		sent.destroy();
		return answer.statusCode === 200;
	});
});

test.each(["csv", "ndjson", "parquet"])(
	"a caller of HTTP/2 who leaves before there is anything to send leaves nothing of %s behind",
	async (format) => {
		const mine = await service.createKey("exporter", ["large"]);
		const threads = () => readdirSync("/proc/self/task").length;
		const before = threads();
		const session = connectHttp2(service.httpUrl);
		const lock = await lockPoints();
		try {
			const stream = session.request({
				":path": `/v1/audit/events:export?format=${format}`,
				authorization: `Bearer ${mine}`,
			});
			await waitFor(async () => (await pointsAwaited()) === 1, { what: "the export to ask for its point" });
			stream.close(constants.NGHTTP2_CANCEL);
			// What comes later in a connection is answered later.
			const next = session.request({ ":path": "/nowhere" });
			await buffer(next);
		} finally {
			await lock.end();
		}
		await waitFor(async () => (await toldOf(mine)).includes("audit.read.summary"), { what: "the end to be told" });
		await waitFor(() => threads() <= before, { what: "the threads to end" });
		session.close();
	},
);

test("a file of Parquet, which has a thread of its own, takes the places of four", async () => {
	const mine = await service.createKey("exporter", ["large"]);
	const lock = await lockPoints();
	const open = [1, 2].map(() => get("format=parquet&actions=nothing", mine));
	try {
		await waitFor(async () => (await pointsAwaited()) === 2, { what: "the exports to ask for their points" });
		const { answer } = await get("format=csv", mine);
		expect(answer.statusCode).toBe(429);
		expect((await buffer(answer)).toString()).toContain("TOO_MANY_EXPORTS");
	} finally {
		await lock.end();
	}
	for (const { answer } of await Promise.all(open))
		expect((await buffer(answer)).toString("latin1", 0, 4)).toBe("PAR1");
	await waitFor(
		async () => {
			const { answer } = await get("format=csv&actions=nothing", mine);
			await buffer(answer);
			return answer.statusCode === 200;
		},
		{ what: "a place" },
	);
});

/** Until it ends no export can be told its point. */
async function lockPoints(): Promise<Client> {
	const locker = new Client({ connectionString: service.database.url });
	await locker.connect();
	await locker.query("BEGIN; LOCK TABLE audit.manifests IN ACCESS EXCLUSIVE MODE");
	return locker;
}

async function pointsAwaited(): Promise<number> {
	const { rows } = await admin.query<{ n: number }>(
		`SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND usename = 'audit_reader'
		 AND wait_event_type = 'Lock' AND query LIKE '%newest_batch%'`,
	);
	return rows[0]?.n ?? 0;
}

/** What the log says of a key's reads. */
async function toldOf(exporter: string): Promise<string[]> {
	const { rows } = await admin.query<{ action: string }>(
		"SELECT action FROM audit.events WHERE action LIKE 'audit.read%' AND actor_id = $1",
		[exporter.split("_")[1]],
	);
	return rows.map(({ action }) => action);
}
