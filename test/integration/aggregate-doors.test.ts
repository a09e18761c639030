import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
	AggregateField,
	type AggregateRequestSchema,
	AuditService,
	BatchWriteMode,
	BucketSize,
	createAuditClient,
	createTenantClient,
	toAuditError,
} from "../../src/client/index.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { testSecret } from "../support/services.ts";

/** Counts at every door of a running service: the same numbers, and the same refusals. */

let service: RpcService;
let key: string;
/** Noon of a day in this year whose month has a partition. */
const DAY = Math.floor(Date.now() / 86_400_000) * 86_400 - 3 * 86_400;
const at = (hours: number) => ({ seconds: BigInt(DAY + hours * 3_600), nanos: 0 });

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
	const client = createAuditClient({ url: service.httpUrl, key });
	const event = (hours: number, action: string, id: string) => ({
		tenantId: "acme",
		occurredAt: at(hours),
		action,
		actor: { id },
		source: "=cmd\u202e",
	});
	await client.batchWrite({
		mode: BatchWriteMode.ATOMIC,
		events: [event(1, "user.login", "jane"), event(5, "user.login", "joe"), event(30, "file.read", "jane")],
	});
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

type Request = MessageInitShape<typeof AggregateRequestSchema>;
const query = { tenantId: "acme", occurredAfter: at(0), occurredBefore: at(72) };
const asked = (): Request => ({ query, fields: [AggregateField.ACTOR_ID], bucketSize: BucketSize.DAY });

const time = (hours: number) => new Date((DAY + hours * 3_600) * 1000).toISOString().replace("Z", "000Z");
/** As REST gives it. */
const ANSWER = {
	total: "3",
	buckets: [
		{ start: time(0), end: time(24), count: "2" },
		{ start: time(24), end: time(48), count: "1" },
		{ start: time(48), end: time(72), count: "0" },
	],
	bucket_size: "BUCKET_SIZE_DAY",
	time_zone: "UTC",
	fields: [
		{
			field: "AGGREGATE_FIELD_ACTOR_ID",
			values: [
				{ value: "jane", resource_type: "", count: "2" },
				{ value: "joe", resource_type: "", count: "1" },
			],
			other: "0",
			other_values: "0",
			absent: "0",
			complete: true,
		},
	],
	complete: true,
};

async function refusalOf(request: Request, as = key) {
	const client = createAuditClient({ url: service.httpUrl, key: as, attempts: 1 });
	const error = await client.aggregate(request).then(
		() => undefined,
		(thrown: unknown) => toAuditError(thrown),
	);
	return [error?.reason, error?.violations.map(({ field }) => field)];
}

async function get(params: string, as = key) {
	const response = await fetch(`${service.httpUrl}/v1/audit/events:aggregate?${params}`, {
		headers: { authorization: `Bearer ${as}` },
	});
	return (await response.json()) as Record<string, unknown> & { error?: { reason: string; violations: object[] } };
}

describe("the same counts", () => {
	test("over Connect and gRPC", async () => {
		const transport = createGrpcTransport({ baseUrl: service.grpcUrl });
		const headers = { authorization: `Bearer ${key}` };
		const overGrpc = await createClient(AuditService, transport).aggregate(asked(), { headers });
		const overConnect = await createAuditClient({ url: service.httpUrl, key }).aggregate(asked());
		expect(overGrpc).toEqual(overConnect);
		expect([overGrpc.total, overGrpc.buckets.map(({ count }) => count)]).toEqual([3n, [2n, 1n, 0n]]);
	});

	test("over REST, with the parameters of a search beside its own", async () => {
		const bounds = `occurred_after=${time(0)}&occurred_before=${time(72)}`;
		const own = "fields=AGGREGATE_FIELD_ACTOR_ID&bucket_size=BUCKET_SIZE_DAY";
		expect(await get(`tenant_id=acme&${bounds}&${own}`)).toEqual(ANSWER);
	});

	test("on the command line, as JSON and as tables that cannot steer a terminal", async () => {
		const flags = ["--url", service.httpUrl, "--key", key, "--tenant", "acme", "--bucket", "day"];
		const bounds = ["--since", time(0), "--until", time(72)];
		const json = await runCli(["count", ...flags, ...bounds, "--by", "actor_id", "-o", "json"]);
		expect([json.exitCode, json.stderr, JSON.parse(json.stdout)]).toEqual([0, "", ANSWER]);
		const table = await runCli(["count", ...flags, ...bounds, "--by", "actor_id", "source"]);
		expect(table.stdout).toBe(
			[
				"3 events",
				"",
				"time (UTC)  events",
				`${time(0).slice(0, 10)}  2       ${"█".repeat(24)}`,
				`${time(24).slice(0, 10)}  1       ${"█".repeat(12)}`,
				`${time(48).slice(0, 10)}  0`,
				"",
				"actor_id  events",
				`jane      2       ${"█".repeat(24)}`,
				`joe       1       ${"█".repeat(12)}`,
				"",
				"source  events",
				`=cmd\ufffd   3       ${"█".repeat(24)}`,
				"",
			].join("\n"),
		);
	});
});

describe("refuses", () => {
	test.each<[string, Request, string, string[]]>([
		[
			"pages",
			{ query: { ...query, pageSize: 5, pageToken: "x", order: 2 } },
			"INVALID_QUERY",
			["query.page_size", "query.page_token", "query.order"],
		],
		[
			"a bad filter and what else is wrong, all at once",
			{ query: { ...query, actions: ["NO"] }, top: -1, timeZone: "Mars/Olympus" },
			"INVALID_QUERY",
			["query.actions[0]", "top", "time_zone"],
		],
		[
			"fields and sizes there are not",
			{ query, fields: [1, 0, 99 as 0], bucketSize: 99 as 0 },
			"INVALID_QUERY",
			["fields[1]", "fields[2]", "bucket_size"],
		],
		["more than 400 buckets", { query, bucketSize: BucketSize.MINUTE }, "INVALID_QUERY", ["bucket_size"]],
		["a tenant that does not exist", { query: { tenantId: "nobody" } }, "TENANT_NOT_FOUND", []],
		["no tenant", {}, "INVALID_REQUEST", ["query.tenant_id"]],
	])("%s", async (_what, request, reason, fields) => {
		expect(await refusalOf(request)).toEqual([reason, fields]);
	});

	test("over REST by the names of its parameters; those of pages are none", async () => {
		expect((await get("tenant_id=acme&actions=NO&top=-1")).error).toMatchObject({
			violations: [{ field: "actions[0]" }, { field: "top" }],
		});
		expect((await get("tenant_id=acme&page_size=5")).error).toMatchObject({ violations: [{ field: "page_size" }] });
		expect((await get("tenant_id=acme&severities=LOUD")).error).toMatchObject({
			violations: [{ field: "severities[0]" }],
		});
	});
});

describe("a key for which the actor is masked", () => {
	test("counts by no field of it, by name or unasked, and searches by none", async () => {
		const masked = await service.createKey("reader", ["acme"], ["actor"]);
		const named = [
			AggregateField.ACTION,
			AggregateField.ACTOR_EMAIL,
			AggregateField.ACTOR_TYPE,
			AggregateField.ACTOR_ID,
		];
		expect(await refusalOf({ fields: named }, masked)).toEqual([
			"UNIT_MASKED",
			["fields[1]", "fields[2]", "fields[3]"],
		]);
		expect(await refusalOf({ query: { actorIds: ["jane"] } }, masked)).toEqual(["UNIT_MASKED", ["query.actor_ids"]]);
		const { fields } = await createAuditClient({ url: service.httpUrl, key: masked }).aggregate({});
		expect(fields.map(({ field }) => field)).toEqual([1, 2, 3, 4, 5, 9]);
		expect((await get("fields=AGGREGATE_FIELD_ACTOR_ID", masked)).error?.reason).toBe("UNIT_MASKED");
	});
});

test("a disabled tenant's events are counted by operators alone", async () => {
	const reader = await service.createKey("reader", ["closed"]);
	await createAuditClient({ url: service.httpUrl, key }).writeEvent({
		event: { tenantId: "closed", action: "user.login", actor: { id: "jane" } },
	});
	await createTenantClient({ url: service.httpUrl, key }).disableTenant({ id: "closed", reason: "a test" });
	expect(await refusalOf({}, reader)).toEqual(["TENANT_DISABLED", []]);
	expect((await refusalOf({ query: { tenantId: "closed" } }))[0]).toBeUndefined();
});

test("who read the log is counted where it is asked for, and only there", async () => {
	const { total } = await createAuditClient({ url: service.httpUrl, key }).aggregate({ query: { tenantId: "acme" } });
	// The three that were written, and the tenant's first.
	expect(total).toBe(4n);
	const read = { query: { tenantId: "acme", includeReads: true } };
	expect((await createAuditClient({ url: service.httpUrl, key }).aggregate(read)).total).toBeGreaterThan(4n);
});

test("a writer may not count", async () => {
	const writer = createAuditClient({ url: service.httpUrl, key: await service.createKey("writer", ["acme"]) });
	await expect(writer.aggregate({})).rejects.toSatisfy(
		(error: unknown) => ConnectError.from(error).code === Code.PermissionDenied,
	);
});
