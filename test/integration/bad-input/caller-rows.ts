import { formatApiKey, parseApiKey } from "../../../src/auth/api-keys.ts";
import { microsOfDate } from "../../../src/event/time.ts";
import { BAD_TOKENS, token } from "../../support/bad-tokens.ts";
import { createKey } from "../../support/rpc-service.ts";
import { type Answer, sendConnect, sendGrpc, sendRest } from "./doors.ts";
import type { Expected, RequestRow } from "./request-rows.ts";
import type { World } from "./world.ts";

/** Rows 34–48: who is calling. */

const EVENTS = "/v1/audit/events";
const event = { tenant_id: "acme", action: "bad.input", actor: { id: "jane" } };
const ID = "01931b8f-0000-7000-8000-000000000001";

type KeyOf = (world: World) => string | undefined | Promise<string | undefined>;

/** A write and a search at each door, with this key. */
function withKey(
	keyOf: KeyOf,
	headers: Record<string, string> = {},
	{ tenant = "acme", also }: { tenant?: string; also?: KeyOf } = {},
): RequestRow["doors"] {
	const sending = async (world: World, body: object) => {
		const key = await keyOf(world);
		const second = also && { "x-api-key": String(await also(world)) };
		return { body: JSON.stringify(body), headers: { ...headers, ...second }, ...(key !== undefined && { key }) };
	};
	const write = { event: { ...event, tenant_id: tenant } };
	return {
		"Connect, a write": async (world) =>
			sendConnect(world.httpUrl, "WriteEvent", "application/json", await sending(world, write)),
		"Connect, a search": async (world) =>
			sendConnect(world.httpUrl, "Query", "application/json", await sending(world, { tenant_id: tenant })),
		"gRPC, a write": async (world) =>
			sendGrpc(world.grpc, "WriteEvent", "application/grpc+json", await sending(world, write)),
		"gRPC, one event": async (world) =>
			sendGrpc(world.grpc, "GetEvent", "application/grpc+json", await sending(world, { tenant_id: tenant, id: ID })),
		"REST, a write": async (world) => sendRest(world.httpUrl, "POST", EVENTS, await sending(world, write.event)),
		"REST, a search": async (world) => {
			const { body: _, ...rest } = await sending(world, {});
			return sendRest(world.httpUrl, "GET", `${EVENTS}?tenant_id=${tenant}`, rest);
		},
	};
}

const only = (doors: RequestRow["doors"], kind: RegExp) =>
	Object.fromEntries(Object.entries(doors).filter(([name]) => kind.test(name)));

/** The key, with something about it changed. */
const changed =
	(change: (key: NonNullable<ReturnType<typeof parseApiKey>>) => string): KeyOf =>
	({ key }) =>
		change(parseApiKey(key) as NonNullable<ReturnType<typeof parseApiKey>>);

/** One text, whatever is wrong. */
const UNKNOWN: Expected = {
	code: "unauthenticated",
	reason: "UNAUTHENTICATED",
	fields: [],
	says: /^a valid key or token is required: send Authorization: Bearer <key>$/,
};

/** The world has a tenant that is disabled. */
const CLOSED: Expected = {
	code: "permission_denied",
	reason: "TENANT_DISABLED",
	fields: [],
	says: /^the tenant is disabled; an operator may enable it$/,
};

export const CALLERS: readonly RequestRow[] = [
	{ row: 34, what: "no key", doors: withKey(() => undefined), expected: UNKNOWN },
	...["s3cret", "al_s3cret", `al_${"0".repeat(12)}_`, "al__", "\u00e9".repeat(9), "x".repeat(8000)].map(
		(key): RequestRow => ({
			row: 35,
			what: `the malformed key ${key.slice(0, 20)}`,
			doors: withKey(() => Buffer.from(key).toString("latin1")),
			expected: UNKNOWN,
		}),
	),
	{
		row: 35,
		what: "a key that does not exist",
		doors: withKey(changed((key) => formatApiKey({ ...key, id: "0".repeat(key.id.length) }))),
		expected: UNKNOWN,
	},
	{
		row: 36,
		what: "a key with another's secret",
		doors: withKey(async ({ key, service }) => {
			const other = parseApiKey(await service.createKey("operator", "all"));
			return formatApiKey({ ...parseApiKey(key), secret: other?.secret } as Parameters<typeof formatApiKey>[0]);
		}),
		expected: UNKNOWN,
	},
	...BAD_TOKENS.map(([row, what, keyOf]): RequestRow => ({ row, what, doors: withKey(keyOf), expected: UNKNOWN })),
	{
		row: 43,
		what: "a good token and a good key",
		doors: withKey(({ key }) => key, {}, { also: token() }),
		expected: UNKNOWN,
	},
	{
		row: 44,
		what: "a token in the URL",
		doors: {
			REST: async (world) =>
				sendRest(world.httpUrl, "GET", `${EVENTS}?tenant_id=acme&access_token=${String(await token()(world))}`),
		},
		expected: UNKNOWN,
	},
	{
		row: 46,
		what: "a reader's token for a write",
		doors: only(withKey(token({ roles: ["reader"] })), /write/),
		expected: { code: "permission_denied", reason: "ROLE_NOT_PERMITTED", says: /it is a reader key$/ },
	},
	{
		row: 46,
		what: "a token without a role",
		doors: withKey(token({ roles: ["admin"] })),
		expected: { code: "permission_denied", reason: "ROLE_NOT_PERMITTED", says: /^this token names no role/ },
	},
	{
		row: 47,
		what: "a token without a tenant",
		doors: withKey(token({ tenant_id: undefined })),
		expected: { code: "permission_denied", reason: "TENANT_NOT_PERMITTED", says: /^this token must name its tenants/ },
	},
	{
		row: 35,
		what: "a key with a wrong checksum",
		doors: withKey(({ key }) => key.replace(/.$/, (last) => (last === "0" ? "1" : "0"))),
		expected: UNKNOWN,
	},
	{
		row: 35,
		what: "a key that was revoked",
		doors: withKey(async ({ service, admin }) => {
			const key = await service.createKey("operator", "all");
			await admin.query("SELECT audit.revoke_api_key($1)", [parseApiKey(key)?.id]);
			return key;
		}),
		expected: UNKNOWN,
	},
	{
		row: 35,
		what: "a key that has expired",
		doors: withKey(({ service }) =>
			createKey(service.database.url, "operator", "all", { expiresAt: microsOfDate(new Date(Date.now() - 1_000)) }),
		),
		expected: UNKNOWN,
	},
	{
		row: 43,
		what: "two keys that differ",
		doors: withKey(({ key }) => key, { "x-api-key": "al_000000000000_s3cret" }),
		expected: UNKNOWN,
	},
	{
		row: 44,
		what: "a key in the URL",
		doors: {
			REST: ({ httpUrl, key }) => sendRest(httpUrl, "GET", `${EVENTS}?tenant_id=acme&key=${key}&access_token=${key}`),
		},
		expected: UNKNOWN,
	},
	{
		row: 46,
		what: "a reader's key for a write",
		doors: only(
			withKey(({ service }) => service.createKey("reader", "all")),
			/write/,
		),
		expected: { code: "permission_denied", reason: "ROLE_NOT_PERMITTED", says: /it is a reader key$/ },
	},
	{
		row: 46,
		what: "a writer's key for a search",
		doors: only(
			withKey(({ service }) => service.createKey("writer", "all")),
			/search|one event/,
		),
		expected: { code: "permission_denied", reason: "ROLE_NOT_PERMITTED", says: /it is a writer key$/ },
	},
	...["acme", "s3cret-nobody"].map(
		(tenant): RequestRow => ({
			row: 47,
			what: tenant === "acme" ? "a tenant of others" : "a tenant that nobody has",
			doors: withKey(({ service }) => service.createKey("operator", ["globex"]), {}, { tenant }),
			expected: { code: "not_found", reason: "TENANT_NOT_FOUND", fields: [], says: /^no such tenant for this key$/ },
		}),
	),
	{
		row: 48,
		what: "a write to a disabled tenant",
		doors: only(
			withKey(({ key }) => key, {}, { tenant: "closed" }),
			/write/,
		),
		expected: CLOSED,
	},
	{
		row: 48,
		what: "a reader's look at a disabled tenant",
		doors: only(
			withKey(({ service }) => service.createKey("reader", ["closed"]), {}, { tenant: "closed" }),
			/search|one event/,
		),
		expected: CLOSED,
	},
	...["a b", "s3cret\0", "x".repeat(129), "é"].map(
		(tenant): RequestRow => ({
			row: 47,
			what: `the tenant ${JSON.stringify(tenant.slice(0, 20))} in a search`,
			doors: only(
				withKey(({ key }) => key, {}, { tenant }),
				/^Connect, a search|one event/,
			),
			expected: { code: "invalid_argument", fields: ["tenant_id"], says: /must be 1 to 128 of/ },
		}),
	),
];

/** Where the answers must be the same, to the byte. */
export function sameText({ text, requestId }: Answer): string {
	return text.replaceAll(requestId ?? "", "").replace(/\["(date|x-request-id)","[^"]*"\],?/g, "");
}
