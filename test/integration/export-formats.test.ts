import { createHash, randomUUID } from "node:crypto";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { type JsonObject, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditClient, createAuditClient } from "../../src/client/index.ts";
import { microsOf, rfc3339 } from "../../src/event/time.ts";
import { COLUMNS, USUAL_COLUMNS } from "../../src/export/columns.ts";
import { ExportCompression, ExportFormat } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { ActorType, Category, type Event, EventSchema, Outcome, Severity } from "../../src/gen/audit/v1/event_pb.ts";
import { exportFile } from "../support/export-file.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";

let service: RpcService;
let client: AuditClient;
let tenants = 0;

beforeAll(async () => {
	service = await startRpcService();
	client = createAuditClient({ url: service.httpUrl, key: await service.createKey("operator", "all"), attempts: 1 });
});
afterAll(() => service.end());

type Init = MessageInitShape<typeof EventSchema>;

/** A tenant of its own with these events. */
async function tenantWith(events: readonly Init[]): Promise<string> {
	const tenantId = `formats-${tenants++}`;
	for (let at = 0; at < events.length; at += 500) {
		const some = events.slice(at, at + 500).map((event) => ({ ...event, tenantId }));
		const { results } = await client.batchWrite({ events: some, mode: 2 });
		expect(results.map(({ result }) => result.case)).toEqual(some.map(() => "written"));
	}
	return tenantId;
}

/** All events of a tenant as a search gives them, in the order of an export. */
async function searched(tenantId: string): Promise<Event[]> {
	const events: Event[] = [];
	for (let pageToken = ""; ; ) {
		const page = await client.query({ tenantId, pageSize: 1000, pageToken, actions: ["*"] });
		events.push(...page.events);
		pageToken = page.nextPageToken;
		if (!pageToken) return events;
	}
}

/** What every column holds of an event, by the event that a search gives: the table of docs/export.md once more. */
function cellsOf(event: Event): Record<string, unknown> {
	const json = toJson(EventSchema, event, { useProtoFieldName: true }) as Record<string, JsonObject | undefined>;
	const [actor, resource] = [json.actor ?? {}, json.primary_resource ?? {}];
	const [context, facts] = [json.context ?? {}, (json.integrity?.recorded_by ?? {}) as JsonObject];
	const time = (at: Event["occurredAt"]) => (at ? rfc3339(microsOf(at)) : undefined);
	const cells: Record<string, unknown> = {
		id: json.id,
		tenant_id: json.tenant_id,
		occurred_at: time(event.occurredAt),
		recorded_at: time(event.recordedAt),
		action: json.action,
		category: json.category,
		severity: json.severity,
		outcome: json.outcome,
		outcome_reason: json.outcome_reason,
		source: json.source,
		actor_type: actor.type,
		actor_id: actor.id,
		actor_display_name: actor.display_name,
		actor_email: actor.email,
		on_behalf_of: json.on_behalf_of,
		resource_type: resource.type,
		resource_id: resource.id,
		resource_display_name: resource.display_name,
		resource_role: resource.role,
		related_resources: json.related_resources,
		ip_address: context.ip_address,
		user_agent: context.user_agent,
		request_id: context.request_id,
		trace_id: context.trace_id,
		session_id: context.session_id,
		location: context.location,
		changes: json.changes,
		description: json.description,
		reason: json.reason,
		metadata: json.metadata,
		schema_version: json.schema_version,
		retention_class: json.retention_class,
		recorded_by_door: facts.door,
		recorded_by_key_id: facts.key_id,
		leaf_hash: Buffer.from(event.integrity?.leafHash ?? []).toString("hex"),
		masked_units: undefined,
	};
	// Enums that have no name here are numbers in JSON, and text in a column.
	for (const name of ["category", "severity", "outcome", "actor_type"]) {
		if (typeof cells[name] === "number") cells[name] = String(cells[name]);
	}
	return Object.fromEntries(Object.entries(cells).map(([name, value]) => [name, value ?? null]));
}

/** An event in which everything there is has a value. */
const FULL: Init = {
	id: randomUUID(),
	action: "invoice.paid",
	occurredAt: { seconds: 1_790_000_000n, nanos: 123_456_000 },
	category: Category.BILLING,
	severity: Severity.NOTICE,
	outcome: Outcome.FAILURE,
	outcomeReason: "card declined",
	source: "dashboard",
	actor: { type: ActorType.USER, id: "u1", displayName: "Jane", email: "jane@example.com" },
	onBehalfOf: [{ type: ActorType.AGENT, id: "a1", displayName: "Bot", email: "bot@example.com" }, { id: "a2" }],
	primaryResource: { type: "invoice", id: "i1", displayName: "Invoice 1", role: "paid" },
	relatedResources: [{ type: "customer", id: "c1", displayName: "Customer", role: "owner" }],
	context: {
		ipAddress: "2001:db8::1",
		userAgent: "x",
		requestId: "r",
		traceId: "t",
		sessionId: "s",
		location: "Zürich",
	},
	changes: { oldValue: { 10: 1, 2: null, b: [1, 2] }, newValue: { a: { "": "" } }, changedFields: ["a", "b"] },
	description: "paid",
	reason: "TICKET-1",
	metadata: { 10: "ten", 9: "nine", a: 1.5e-7, é: [true, null] },
	schemaVersion: 7,
	retentionClass: "long",
};
const UNKNOWN_ENUMS: Init = {
	...FULL,
	id: randomUUID(),
	category: 777 as Category,
	severity: 778 as Severity,
	outcome: 779 as Outcome,
	actor: { id: "u1", type: 780 as ActorType },
};
const BARE: Init = { action: "user.login", actor: { id: "u2" } };

/** Texts that mean something to spreadsheets, CSV or JSON, and such in every script. */
const nasty = fc.oneof(
	fc
		.tuple(
			fc.constantFrom("", "'", "''", " ", "\t", "\r", "\n", "\u3000"),
			fc.constantFrom("=", "+", "-", "@", "＝", "＋", "－", "＠", "'", '"', ",", ";"),
			fc.string(),
		)
		.map((parts) => parts.join("")),
	fc.string({ unit: "grapheme" }),
	fc.constantFrom(
		"a\r\nb",
		'"',
		'""',
		",",
		" x ",
		"\u2028",
		"\u0001\u001b[31m",
		"مرحبا",
		"你好",
		"नमस्ते",
		"👩‍👩‍👧",
		"\u202eabc",
		"NULL",
		"\\N",
		"1e5",
		"007",
	),
);
const text = nasty.filter((value) => !value.includes("\0") && value.isWellFormed());

/** As docs/export.md tells readers of CSV to do. */
function withoutApostrophe(cell: string): string {
	return /^''*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])/.test(cell) ? cell.slice(1) : cell;
}

describe("the cells are those of the event that a search gives", () => {
	const rows = fc.array(
		fc.record({ description: text, reason: text, name: text, place: text, agent: text, key: text }),
		{ minLength: 1, maxLength: 60 },
	);

	test("in CSV, read by another's reader, and in NDJSON", async () => {
		await fc.assert(
			fc.asyncProperty(rows, async (values) => {
				const tenantId = await tenantWith([
					FULL,
					UNKNOWN_ENUMS,
					BARE,
					...values.map(({ description, reason, name, place, agent, key }) => ({
						...BARE,
						actor: { id: "u1", displayName: name },
						context: { location: place, userAgent: agent },
						metadata: { [key]: reason },
						description,
						reason,
					})),
				]);
				const wanted = (await searched(tenantId)).map(cellsOf);
				const csv = await exportFile(client, { query: { tenantId, actions: ["*"] }, format: ExportFormat.CSV });
				const lines: Record<string, string>[] = parse(csv.text, {
					columns: true,
					bom: false,
					record_delimiter: "\r\n",
				});
				expect(lines.map(valuesOfCsv)).toEqual(wanted);
				const ndjson = await exportFile(client, { query: { tenantId, actions: ["*"] }, format: ExportFormat.NDJSON });
				expect(ndjson.text.endsWith("\n")).toBe(true);
				const objects = ndjson.text
					.slice(0, -1)
					.split("\n")
					.map((line) => JSON.parse(line) as JsonObject);
				expect(objects).toEqual(wanted);
				expect(objects.map((object) => Object.keys(object))).toEqual(
					objects.map(() => USUAL_COLUMNS.map(({ name }) => name)),
				);
				for (const { manifest, bytes } of [csv, ndjson]) {
					expect(manifest.events).toBe(BigInt(wanted.length));
					expect(manifest.bytes).toBe(BigInt(bytes.length));
					expect(Buffer.from(manifest.sha256)).toEqual(createHash("sha256").update(bytes).digest());
				}
			}),
			{ numRuns: 12 },
		);
	});

	/** A line of CSV as what it means, by the types of the columns. */
	function valuesOfCsv(line: Record<string, string>): Record<string, unknown> {
		return Object.fromEntries(
			Object.entries(line).map(([name, cell]) => {
				const column = COLUMNS.find((each) => each.name === name);
				if (cell === "") return [name, null];
				if (column?.type === "json") return [name, JSON.parse(cell)];
				if (column?.type === "integer") return [name, Number(cell)];
				return [name, column?.type === "text" ? withoutApostrophe(cell) : cell];
			}),
		);
	}
});

test("JSON cells are the very text that was hashed", async () => {
	const tenantId = await tenantWith([FULL]);
	const { text } = await exportFile(client, { query: { tenantId, actions: ["*"] }, format: ExportFormat.NDJSON });
	expect(text).toContain('"metadata":{"10":"ten","9":"nine","a":1.5e-7,"é":[true,null]}');
	expect(text).toContain(
		'"changes":{"changed_fields":["a","b"],"new_value":{"a":{"":""}},"old_value":{"10":1,"2":null,"b":[1,2]}}',
	);
	expect(text).toContain(
		'"on_behalf_of":[{"display_name":"Bot","email":"bot@example.com","id":"a1","type":"ACTOR_TYPE_AGENT"},{"id":"a2"}]',
	);
});

test("no cell of text begins with what a spreadsheet takes for a formula, whatever was written", async () => {
	const formulas = [
		"=1+1",
		"+1",
		"-1",
		"@x",
		"\t=1",
		"\r=1",
		"\n=1",
		" =1",
		"＝1",
		"＋1",
		"－1",
		"＠1",
		"'=1",
		"\u00a0=1",
	];
	const tenantId = await tenantWith(formulas.map((description) => ({ ...BARE, description })));
	const { text } = await exportFile(client, {
		query: { tenantId, actions: ["user.login"] },
		format: ExportFormat.CSV,
		columns: ["occurred_at", "description"],
	});
	const lines: string[][] = parse(text, { record_delimiter: "\r\n", from_line: 2 });
	const cells = lines.map(([, cell = ""]) => cell);
	expect(cells.toSorted()).toEqual(formulas.map((formula) => `'${formula}`).toSorted());
	for (const [time = ""] of lines) expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
});

describe.each([
	["gzip", ExportCompression.GZIP, gunzipSync],
	["zstd", ExportCompression.ZSTD, zstdDecompressSync],
] as const)("%s", (_, compression, decompress) => {
	test.each([0, 1, 3_000])("the file of %d events is, decompressed, the one that is not compressed", async (count) => {
		const tenantId = await tenantWith(Array.from({ length: Math.max(count, 1) }, () => BARE));
		const query = { tenantId, actions: count === 0 ? ["nothing.such"] : ["user.login"] };
		for (const format of [ExportFormat.CSV, ExportFormat.NDJSON]) {
			const plain = await exportFile(client, { query, format });
			const { bytes, manifest, start } = await exportFile(client, { query, format, compression });
			expect(decompress(bytes).equals(plain.bytes)).toBe(true);
			expect(Buffer.from(manifest.sha256)).toEqual(createHash("sha256").update(bytes).digest());
			expect(manifest).toMatchObject({
				events: BigInt(count),
				bytes: BigInt(bytes.length),
				contentBytes: plain.manifest.bytes,
				contentSha256: plain.manifest.sha256,
			});
			expect(start.fileName).toMatch(/^formats-\d+-\d{8}T\d{6}Z\.(csv|ndjson)\.(gz|zst)$/);
		}
	});
});

test("a byte order mark comes where it is asked for, and nowhere else", async () => {
	const tenantId = await tenantWith([BARE]);
	const of = async (csvBom: boolean) => (await exportFile(client, { query: { tenantId }, format: 1, csvBom })).bytes;
	expect((await of(true)).subarray(0, 5)).toEqual(Buffer.from("\ufeffid"));
	expect((await of(false)).subarray(0, 2)).toEqual(Buffer.from("id"));
});

test("every column can be asked for, in any order", async () => {
	const tenantId = await tenantWith([FULL]);
	const names = COLUMNS.map(({ name }) => name).toReversed();
	const { text, start, manifest } = await exportFile(client, {
		query: { tenantId, actions: ["invoice.paid"] },
		format: 2,
		columns: names,
	});
	const event = (await searched(tenantId)).find(({ action }) => action === "invoice.paid");
	const object = JSON.parse(text.split("\n")[0] ?? "") as Record<string, unknown>;
	expect(Object.keys(object)).toEqual(names);
	expect(start.columns).toEqual(names);
	expect(manifest.columns).toEqual(names);
	expect(Object.values(object.salts as object).join("")).toBe(
		Buffer.from(event?.integrity?.salts ?? []).toString("hex"),
	);
	expect(object.batch_id).toMatch(/^\d+$/);
});
