import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NOTHING_MASKED } from "../../src/auth/principal.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import type { TenantId } from "../../src/event/event.ts";
import { QueryRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import type { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { Query } from "../../src/query/query.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../support/write-path.ts";

/** Where a search for words, or for everything that concerns somebody, looks: each place by an event of its own. */

let database: TestDatabase;
let path: WritePath;
let query: Query;

type EventInit = MessageInitShape<typeof EventSchema>;
type Filters = MessageInitShape<typeof QueryRequestSchema>;

const jane = { id: "jane" };
/** One event for each place that is looked into. Its name is its description's last word. */
const EVENTS: Record<string, EventInit> = {
	action: { action: "report.exported", actor: jane },
	description: { actor: jane, description: 'Straße "Ünter\nden\\Linden" 東京都庁' },
	actor: { actor: { id: "x-actor", displayName: "Zoë Ångström" } },
	behalf: { actor: jane, onBehalfOf: [{ id: "a" }, { id: "x-behalf", displayName: "Владимир ПУТИЛИН" }] },
	primary: { actor: jane, primaryResource: { id: "x-primary", displayName: "Łódź report" } },
	related: {
		actor: jane,
		primaryResource: { id: "f" },
		relatedResources: [{ id: "a" }, { id: "x-related", displayName: "نُسْخَة نهائية" }],
	},
	// None of this is searched for words.
	elsewhere: {
		actor: { id: "zoe", email: "zoe.angstrom@example.com" },
		primaryResource: { id: "lodz", type: "strasse" },
		reason: "straße",
		metadata: { word: "exported", display_name: "Łódź" },
		context: { userAgent: "exported" },
	},
};

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	query = new Query({ db: path.db, pageTokenKey: deriveKeys(testSecret()).pageTokens });
	const events = Object.entries(EVENTS).map(([name, event]) => anEvent({ source: name, ...event }));
	await path.ingest.accept(events, aWriter(), { atomic: true });
});
afterAll(async () => {
	await path.close();
	await database.drop();
});

/** The names of what is found. */
async function find(filters: Filters): Promise<string[]> {
	const request = create(QueryRequestSchema, { ...filters, sources: Object.keys(EVENTS) } as Filters);
	const { events } = await query.search(request, "acme" as TenantId, NOTHING_MASKED);
	return events.map(({ source }) => source).sort();
}

describe("words are looked for in", () => {
	test.each([
		["the action", "exported", ["action"]],
		["the action, by a beginning", "expor*", ["action"]],
		["the description", "strasse", ["description"]],
		["the description, where it has quotes, backslashes and line breaks", "unter den linden", ["description"]],
		["the description, in any two neighbouring characters", "京都", ["description"]],
		["the description, by one character", "庁", ["description"]],
		["the actor's name", "zoe ANGSTROM", ["actor"]],
		["the name of one acted for", "путилин", ["behalf"]],
		["the primary resource's name", "lodz", ["primary"]],
		["a related resource's name", "نسخة", ["related"]],
		["all of these together", "report login", ["primary"]],
		["all of these together, the same word in several", "report*", ["action", "primary"]],
	])("%s", async (_where, text, found) => {
		expect(await find({ text })).toEqual(found);
	});

	test.each([
		["a part of a word", "xport"],
		["a beginning that is not said to be one", "expor"],
		["characters that are not neighbours", "京庁"],
		["an escape of JSON", "nden"],
		["names of JSON", "actor"],
		["a word that is not there beside one that is", "exported nothing"],
	])("and nothing is found by %s", async (_what, text) => {
		expect(await find({ text })).toEqual([]);
	});
});

describe("what concerns somebody is found by", () => {
	test.each([
		["x-actor", ["actor"], ["actor"]],
		["x-behalf", ["behalf"], ["behalf"]],
		["x-primary", [], ["primary"]],
		["x-related", [], ["related"]],
		["a", ["behalf"], ["behalf", "related"]],
		["x-", [], []],
		["ACTOR_TYPE_USER", [], []],
	])("the id %s", async (id, asActor, atAll) => {
		expect(await find({ actorOrOnBehalfOfIds: [id] })).toEqual(asActor);
		expect(await find({ touchingIds: [id] })).toEqual(atAll);
		expect(await find({ touchingIds: [id, "nobody"] })).toEqual(atAll);
	});
});

test("an index can be had of the words, whatever events hold, and answers as the walk does", async () => {
	const names = (name: string) => Array.from({ length: 32 }, (_, i) => ({ id: `r${i}`, displayName: name }));
	const hostile = [
		"東".repeat(341),
		"x".repeat(1024),
		"ﷺ".repeat(341),
		"' \\ : * & | ! ( ) < > \u0001 ".repeat(40),
		"é*".repeat(300),
	];
	const events = hostile.map((name) =>
		anEvent({
			tenantId: "initech",
			actor: { id: "x", displayName: name },
			description: name.repeat(3),
			relatedResources: names(name),
		}),
	);
	await path.ingest.accept(events, aWriter(), { atomic: true });
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	try {
		const words = "array_to_tsvector(audit.text_words(action, u_actor, u_description, u_resources))";
		const { rows } = await admin.query<{ leaf: string }>(
			"SELECT DISTINCT tableoid::regclass::text AS leaf FROM audit.events",
		);
		for (const { leaf } of rows) await admin.query(`CREATE INDEX ON ${leaf} USING gin (${words})`);
		await admin.query("SET enable_seqscan = off");
		await admin.query("SET enable_indexscan = off");
		for (const text of ["report*", "東東", "x*", "صلى", "login"]) {
			const count = async (condition: string) =>
				(await admin.query<{ n: number }>(`SELECT count(*)::int AS n FROM audit.events WHERE ${condition}`, [text]))
					.rows[0]?.n;
			const plan = await admin.query(`EXPLAIN SELECT FROM audit.events WHERE ${words} @@ audit.text_query('${text}')`);
			expect(JSON.stringify(plan.rows)).toContain("Bitmap Index Scan");
			const found = await count(`${words} @@ audit.text_query($1)`);
			expect(found).toBeGreaterThan(0);
			// Nothing that an index could be of.
			expect(await count(`(${words} || ''::tsvector) @@ audit.text_query($1)`)).toBe(found);
		}
		// Late events go into a month that has it, too.
		const late = await path.ingest.accept([anEvent({ tenantId: "initech", description: "late" })], aWriter(), {
			atomic: true,
		});
		expect(late.map(({ ok }) => ok)).toEqual([true]);
	} finally {
		await admin.end();
	}
});

test("an event whose actor is gone is by nobody who is left out", async () => {
	await path.ingest.accept([anEvent({ source: "erased", tenantId: "globex", actor: jane })], aWriter(), {
		atomic: true,
	});
	const admin = new Client({ connectionString: database.url });
	await admin.connect();
	// As erasure leaves it; nothing of the service's can do that yet.
	await admin.query("SET session_replication_role = replica");
	await admin.query(
		"UPDATE audit.events SET actor_id = NULL, actor_email = NULL, u_actor = NULL WHERE tenant_id = 'globex' AND source = 'erased'",
	);
	await admin.end();
	const found = async (filters: Filters) => {
		const request = create(QueryRequestSchema, { ...filters, sources: ["erased"] } as Filters);
		return (await query.search(request, "globex" as TenantId, NOTHING_MASKED)).events.length;
	};
	expect(await found({ notActorIds: ["jane"] })).toBe(1);
	expect(await found({ notActorIds: ["jane"], text: "login" })).toBe(1);
	expect(await found({ actorOrOnBehalfOfIds: ["jane"] })).toBe(0);
	expect(await found({ touchingIds: ["jane"] })).toBe(0);
});
