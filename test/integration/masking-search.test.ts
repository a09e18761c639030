import { create, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MASKABLE_UNITS, type MaskableUnit, NOTHING_MASKED } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import { type AuditClient, createAuditClient, toAuditError, verifyEvent } from "../../src/client/index.ts";
import type { TenantId } from "../../src/event/event.ts";
import { MASKABLE } from "../../src/event/unit.ts";
import { GetEventRequestSchema, QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import type { FilterName } from "../../src/query/filter-table.ts";
import { Query } from "../../src/query/query.ts";
import { FIELDS_OF } from "../support/canary-event.ts";
import { checkTrail } from "../support/check-trail.ts";
import { goodEvents } from "../support/good-events.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

/** What is masked for a key cannot be searched by, has no part in where pages end, and is left out of whatever is found. */

let service: RpcService;
let path: WritePath;
let query: Query;

beforeAll(async () => {
	service = await startRpcService();
	path = openWritePath({ databaseUrl: service.database.url, secret: testSecret() });
	query = new Query({ db: path.db, pageTokenKey: deriveKeys(testSecret()).pageTokens });
	await write("acme", [
		anEvent({
			source: "api",
			category: 1,
			actor: { id: "jane", type: 1, email: "jane@example.com" },
			primaryResource: { type: "file", id: "f1" },
			context: { requestId: "r-1", traceId: "t-1" },
		}),
	]);
	return () => path.close();
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

async function write(tenantId: string, events: Event[]): Promise<Event[]> {
	const given = events.map((event) => ({ ...event, tenantId }));
	const results = await path.ingest.accept(given, aWriter(), { atomic: false });
	expect(results.filter(({ ok }) => !ok)).toEqual([]);
	return given;
}

const clientWith = async (masked: readonly MaskableUnit[], tenants: readonly string[] | "all" = ["acme"]) =>
	createAuditClient({ url: service.httpUrl, key: await service.createKey("reader", tenants, masked), attempts: 1 });

type Filters = MessageInitShape<typeof QueryRequestSchema>;

/** The units the filters are of, in the contract's words once more; a value that finds the event; and one that nothing has. */
const FILTERS: Record<FilterName, { units?: readonly MaskableUnit[]; finds: Filters; misses: Filters }> = {
	occurredAfter: { finds: { occurredAfter: seconds(1) }, misses: { occurredAfter: seconds(9e9) } },
	occurredBefore: { finds: { occurredBefore: seconds(9e9) }, misses: { occurredBefore: seconds(1) } },
	actorIds: { units: ["actor"], finds: { actorIds: ["jane"] }, misses: { actorIds: ["nobody"] } },
	actorEmails: { units: ["actor"], finds: { actorEmails: ["jane@example.com"] }, misses: { actorEmails: ["x"] } },
	actorTypes: { units: ["actor"], finds: { actorTypes: [1] }, misses: { actorTypes: [0] } },
	actions: { finds: { actions: ["user.*"] }, misses: { actions: ["x"] } },
	categories: { finds: { categories: [1] }, misses: { categories: [2] } },
	severities: { finds: { severities: [2] }, misses: { severities: [3] } },
	outcomes: { finds: { outcomes: [1] }, misses: { outcomes: [2] } },
	sources: { finds: { sources: ["api"] }, misses: { sources: ["x"] } },
	resourceId: { units: ["resources"], finds: { resourceId: "f1" }, misses: { resourceId: "x" } },
	resourceType: { units: ["resources"], finds: { resourceType: "file" }, misses: { resourceType: "x" } },
	requestId: { units: ["context"], finds: { requestId: "r-1" }, misses: { requestId: "x" } },
	traceId: { units: ["context"], finds: { traceId: "t-1" }, misses: { traceId: "x" } },
	ids: { finds: {}, misses: { ids: ["00000000-0000-4000-8000-000000000000"] } },
	recordedAfter: { finds: { recordedAfter: seconds(1) }, misses: { recordedAfter: seconds(9e9) } },
	recordedBefore: { finds: { recordedBefore: seconds(9e9) }, misses: { recordedBefore: seconds(1) } },
	notActions: { finds: { notActions: ["x"] }, misses: { notActions: ["user.*", "audit.*"] } },
	notActorIds: {
		units: ["actor"],
		finds: { notActorIds: ["auditlog"] },
		misses: { notActorIds: ["jane", "auditlog"] },
	},
	actorOrOnBehalfOfIds: {
		units: ["actor"],
		finds: { actorOrOnBehalfOfIds: ["jane"] },
		misses: { actorOrOnBehalfOfIds: ["nobody"] },
	},
	touchingIds: { units: ["actor", "resources"], finds: { touchingIds: ["f1"] }, misses: { touchingIds: ["x"] } },
	text: { units: ["actor", "description", "resources"], finds: { text: "user" }, misses: { text: "nothing" } },
	includeReads: { finds: { includeReads: true }, misses: {} },
};
const NAMES = Object.keys(FILTERS) as FilterName[];
const fieldOf = (name: FilterName) => QueryRequestSchema.field[name].name;

function seconds(n: number) {
	return { seconds: BigInt(n), nanos: 0 };
}

/** All that a caller is told; nothing if the search is let pass. */
async function refusal(client: AuditClient, filters: Filters, tenantId = "acme") {
	try {
		await client.query({ ...filters, tenantId });
		return undefined;
	} catch (error) {
		const { code, reason, message, violations } = toAuditError(error);
		return { code, reason, message, violations };
	}
}

describe.each(MASKABLE_UNITS)("a key for which %s is masked", (unit) => {
	const own = NAMES.filter((name) => FILTERS[name].units?.includes(unit));
	const others = NAMES.filter((name) => !FILTERS[name].units?.includes(unit));

	test("searches by everything else, and finds what anybody finds", async () => {
		const client = await clientWith([unit]);
		for (const name of others) {
			const found = await client.query({ ...FILTERS[name].finds, tenantId: "acme", actions: ["user.login"] });
			expect([name, found.events.length]).toEqual([name, 1]);
		}
	});

	test.each(own)("may not search by it: %s", async (name) => {
		const [unmasked, masked] = await Promise.all([clientWith([]), clientWith([unit])]);
		expect((await unmasked.query({ ...FILTERS[name].finds, tenantId: "acme" })).events).toHaveLength(1);
		expect((await unmasked.query({ ...FILTERS[name].misses, tenantId: "acme" })).events).toHaveLength(0);
		const refused = await refusal(masked, FILTERS[name].finds);
		expect(refused).toEqual({
			code: "permission_denied",
			reason: "UNIT_MASKED",
			message: `this key may not search by what is masked for it: ${fieldOf(name)}`,
			violations: [{ field: fieldOf(name), message: `searches ${unit}, which is masked for this key` }],
		});
		// Whether anything matches, whether it could: the answer is the same.
		expect(await refusal(masked, FILTERS[name].misses)).toEqual(refused);
		expect(await refusal(await clientWith([unit], "all"), FILTERS[name].finds, "nobody")).toEqual(refused);
	});
});

test("an auditor may search by none of them; all that are given are named, at every door", async () => {
	const key = await service.createKey("auditor", ["acme"]);
	const given = NAMES.filter((name) => FILTERS[name].units);
	const filters = Object.assign({}, ...given.map((name) => FILTERS[name].finds)) as Filters;
	const auditor = createAuditClient({ url: service.httpUrl, key });
	const refused = await refusal(auditor, { ...filters, actions: ["user.*"], sources: ["api"] });
	expect(refused?.violations).toEqual(
		given.map((name) => ({
			field: fieldOf(name),
			message: `searches ${FILTERS[name].units?.join(" and ")}, which is masked for this key`,
		})),
	);
	// Nor is anything said of values that could not be searched for.
	expect((await refusal(auditor, { actorIds: ["\0"], pageSize: -1 }))?.reason).toBe("UNIT_MASKED");

	const json = toJson(QueryRequestSchema, create(QueryRequestSchema, filters), { useProtoFieldName: true });
	const params = Object.entries(json as object).map(([name, value]) => [name, String(value)]);
	const rest = await fetch(`${service.httpUrl}/v1/audit/events?${new URLSearchParams(params)}`, {
		headers: { authorization: `Bearer ${key}` },
	});
	const { error } = (await rest.json()) as { error: object };
	expect([rest.status, error]).toEqual([403, expect.objectContaining({ ...refused, code: "permission_denied" })]);

	const cli = await runCli(["query", "--actor", "jane", "--trace-id", "t-1"], {
		AUDIT_URL: service.httpUrl,
		AUDIT_KEY: key,
	});
	expect([cli.exitCode, cli.stdout]).toEqual([expect.any(Number), ""]);
	expect(cli.exitCode).not.toBe(0);
	expect(cli.stderr).toContain("this key may not search by what is masked for it: actor_ids, trace_id");
	expect(cli.stderr).toContain("use a key that sees them");
});

describe("a page token", () => {
	beforeAll(() => write("paged", [anEvent(), anEvent({ actor: { id: "jane" } }), anEvent({ actor: { id: "jane" } })]));

	test("of a key that sees more carries no search by what is masked", async () => {
		const filters = { tenantId: "paged", actorIds: ["jane"], pageSize: 1 };
		const first = await (await clientWith([], ["paged"])).query(filters);
		expect(first.nextPageToken).not.toBe("");
		const masked = await clientWith(["actor"], ["paged"]);
		const next = { pageToken: first.nextPageToken, pageSize: 1 };
		expect((await refusal(masked, { ...filters, ...next }, "paged"))?.reason).toBe("UNIT_MASKED");
		expect((await refusal(masked, next, "paged"))?.reason).toBe("INVALID_PAGE_TOKEN");
	});

	test("goes on with what everybody may search for, and the next page is masked, too", async () => {
		const filters = { tenantId: "paged", actions: ["user.login"], pageSize: 1 };
		const { nextPageToken } = await (await clientWith([], ["paged"])).query(filters);
		const page = await (await clientWith(["actor"], ["paged"])).query({ ...filters, pageToken: nextPageToken });
		expect(page.events.map(({ actor }) => actor)).toEqual([undefined]);
		expect(page.events[0]?.integrity?.maskedUnits).toHaveLength(1);
	});
});

test("where a page ends tells nothing of how much is masked", async () => {
	const metadata = { text: "x".repeat(200_000) };
	await write(
		"large",
		Array.from({ length: 30 }, () => anEvent({ metadata })),
	);
	const large = async (masked: readonly MaskableUnit[]) =>
		(await (await clientWith(masked, ["large"])).query({ tenantId: "large", actions: ["user.login"] })).events.length;
	expect(await large([])).toBeLessThan(30);
	expect(await large(["metadata"])).toBe(30);
});

test("whatever events there are and whatever is masked: it is left out, the rest is as it is for others, and all of it verifies", async () => {
	const inputs = fc.sample(goodEvents(), { seed: 4711, numRuns: 120 });
	const written = await write(
		"random",
		inputs.map((init) => create(EventSchema, init)),
	);
	expect(written).toHaveLength(120);
	const tenantId = "random" as TenantId;
	const all = create(QueryRequestSchema, { pageSize: 1_000, actions: ["user.login", "a", "file-read_2"] });
	const { events: whole } = await query.search(all, tenantId, NOTHING_MASKED);
	expect(whole).toHaveLength(120);
	const byId = new Map(whole.map((event) => [event.id, event]));
	const units = fc.uniqueArray(fc.constantFrom(...MASKABLE_UNITS), { minLength: 1 });
	await fc.assert(
		fc.asyncProperty(units, async (denied) => {
			const masked = new Set(denied);
			const { events } = await query.search(all, tenantId, masked);
			expect(events.map(({ id }) => id)).toEqual(whole.map(({ id }) => id));
			for (const event of events) {
				const open = byId.get(event.id) as Event;
				const hidden = MASKABLE_UNITS.filter((unit) => masked.has(unit) && has(open, unit));
				expect(verifyEvent(event, open.integrity?.leafHash)).toEqual({
					ok: true,
					masked: hidden.map((unit) => MASKABLE[unit]),
				});
				expect(fieldsOf(event)).toEqual(without(fieldsOf(open), [...masked]));
			}
			const { id } = events[0] as Event;
			const got = await query.get(create(GetEventRequestSchema, { id }), tenantId, masked);
			expect(got).toEqual(events[0]);
		}),
		{ numRuns: 40 },
	);
});

/** Everything but what is said of the hashes. */
function fieldsOf(event: Event): Record<string, unknown> {
	const { integrity: _, ...fields } = toJson(EventSchema, event, { useProtoFieldName: true }) as Record<
		string,
		unknown
	>;
	return fields;
}

function without(fields: Record<string, unknown>, units: readonly MaskableUnit[]): Record<string, unknown> {
	const hidden = new Set(units.flatMap((unit) => FIELDS_OF[unit]));
	return Object.fromEntries(Object.entries(fields).filter(([name]) => !hidden.has(name)));
}

function has(event: Event, unit: MaskableUnit): boolean {
	return FIELDS_OF[unit].some((name) => name in fieldsOf(event));
}
