import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tokensLike } from "../../support/fuzz-inputs.ts";
import { type LetterService, startLetterService } from "../../support/letter-service.ts";
import { createKey } from "../../support/rpc-service.ts";
import { inTurns } from "./cells.ts";
import { type Answer, sendHttp } from "./send.ts";
import { bearer } from "./world.ts";

/** A search of which there is a next page: what its token must be good for, and nothing else. */
interface Search {
	readonly rpc: string;
	readonly body: object;
}

interface Issued extends Search {
	readonly token: string;
}

const TENANTS = ["acme", "globex"] as const;
const QUERY = "audit.v1.AuditService/Query";
let service: LetterService;
let issued: Issued[];
/** Sees both tenants: no refusal is due to what it may not see. */
let key: string;

beforeAll(async () => {
	service = await startLetterService();
	await service.makeTenants(...TENANTS);
	key = await createKey(service.database.url, "operator", TENANTS);
	const searches = (await Promise.all(TENANTS.map(fill))).flat();
	issued = await Promise.all(searches.map(async (search) => ({ ...search, token: await firstToken(search) })));
});
afterAll(() => service.end());

/** Three of everything, all found by each of the filters. @returns a search for each filter, in each order */
async function fill(tenant: string): Promise<Search[]> {
	const event = {
		tenant_id: tenant,
		action: "file.read",
		category: "CATEGORY_DATA",
		severity: "SEVERITY_NOTICE",
		outcome: "OUTCOME_FAILURE",
		source: "api",
		actor: { id: "jane", email: "jane@example.com", type: "ACTOR_TYPE_USER" },
		primary_resource: { type: "file", id: "f1" },
		context: { request_id: "r1", trace_id: "t1" },
	};
	const ids = [randomUUID(), randomUUID(), randomUUID()];
	const occurred_at = new Date().toISOString();
	const written = await call("audit.v1.AuditService/BatchWrite", {
		events: ids.map((id) => ({ ...event, id, occurred_at })),
		mode: "BATCH_WRITE_MODE_ATOMIC",
	});
	expect(written.code, written.text).toBe("ok");
	await service.publish(...ids.map(() => ({ subject: `audit.events.${tenant}`, data: "{}" })));
	for (const name of ids) await createKey(service.database.url, "reader", [tenant], { name });

	const [past, future] = ["2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"];
	const filters: object[] = [
		{},
		{ actor_ids: ["jane"] },
		{ actor_emails: ["jane@example.com"] },
		{ actor_types: ["ACTOR_TYPE_USER"] },
		{ actions: ["file.read"] },
		{ actions: ["file.*"] },
		{ categories: ["CATEGORY_DATA"] },
		{ severities: ["SEVERITY_NOTICE"] },
		{ outcomes: ["OUTCOME_FAILURE"] },
		{ sources: ["api"] },
		{ resource_type: "file" },
		{ resource_id: "f1" },
		{ request_id: "r1" },
		{ trace_id: "t1" },
		{ ids },
		{ occurred_after: past },
		{ occurred_before: future },
		{ recorded_after: past },
		{ recorded_before: future },
	];
	const orders = ["ORDER_NEWEST_FIRST", "ORDER_OLDEST_FIRST"];
	const queries = filters.flatMap((filter) =>
		orders.map((order) => ({ rpc: QUERY, body: { tenant_id: tenant, order, ...filter } })),
	);
	const letters = [{ tenant_id: tenant }, { tenant_id: tenant, reasons: ["INVALID_EVENT"] }];
	return [
		...queries,
		...letters.map((filter) => ({ rpc: "audit.v1.DeadLetterService/ListDeadLetters", body: { filter } })),
		{ rpc: "audit.v1.AccessService/ListApiKeys", body: { tenant_id: tenant } },
		...(tenant === "acme" ? [{ rpc: "audit.v1.TenantService/ListTenants", body: {} }] : []),
	];
}

function call(rpc: string, body: object, as = key): Promise<Answer> {
	const headers = { "content-type": "application/json", ...bearer(as) };
	return sendHttp(`${service.httpUrl}/${rpc}`, { method: "POST", headers, body: JSON.stringify(body) });
}

async function firstToken({ rpc, body }: Search): Promise<string> {
	const answer = await call(rpc, { ...body, page_size: 1 });
	const [, token] = /"nextPageToken":"([^"]+)"/.exec(answer.text) ?? [];
	if (!token) throw new Error(`there is no second page of ${rpc} ${JSON.stringify(body)}: ${answer.text}`);
	return token;
}

const present = (token: string, { rpc, body }: Search, as = key) => call(rpc, { ...body, page_token: token }, as);

describe("a page token", () => {
	test("is good for the search it was issued for", async () => {
		await inTurns(issued, async ({ token, ...search }) => expect((await present(token, search)).code).toBe("ok"));
	});

	test("is good for no other tenant, filter, order or RPC: each of all with each of all", async () => {
		let refused = 0;
		const pairs = issued.flatMap((from) => issued.filter((to) => to !== from).map((to) => ({ from, to })));
		await inTurns(pairs, async ({ from, to }) => {
			const answer = await present(from.token, to);
			expect(answer.text, `${JSON.stringify(from)} for ${JSON.stringify(to)}`).toContain("INVALID_PAGE_TOKEN");
			refused += 1;
		});
		expect(refused).toBe(issued.length * (issued.length - 1));
	});

	test("opens nothing to a key of another tenant: what it may not see does not exist, token or not", async () => {
		for (const [mine, theirs] of [TENANTS, [...TENANTS].reverse()]) {
			const stranger = await createKey(service.database.url, "operator", [mine as string]);
			const ofTheirs = issued.filter(({ body }) => JSON.stringify(body).includes(`"${theirs}"`));
			expect(ofTheirs.length).toBeGreaterThan(30);
			await inTurns(ofTheirs, async ({ token, ...search }) => {
				expect((await present(token, search, stranger)).code).toBe("not_found");
				const own = JSON.parse(JSON.stringify(search.body).replaceAll(`"${theirs}"`, `"${mine}"`)) as object;
				expect((await present(token, { ...search, body: own }, stranger)).code).toBe("invalid_argument");
			});
		}
	});

	test("that was altered in any way is refused, with one text: 10,000 of them", async () => {
		const [first] = issued as [Issued];
		const texts = new Set<string>();
		const forged = fc.sample(
			tokensLike(first.token).filter((token) => token !== first.token && token !== "" && token.isWellFormed()),
			10_000,
		);
		await inTurns(forged, async (token) => {
			const answer = await present(token, first);
			expect(answer.code, token).toBe("invalid_argument");
			texts.add(answer.text);
		});
		expect(texts.size).toBe(1);
	});
});
