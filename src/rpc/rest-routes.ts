import type { Spread } from "./rest-params.ts";

/** The search of a call that has no pages. */
export const WHOLE_SEARCH = { field: "query", without: ["page_size", "page_token"] } as const satisfies Spread;
/** Of one that has no order either. */
export const UNORDERED_SEARCH = {
	field: "query",
	without: [...WHOLE_SEARCH.without, "order"],
} as const satisfies Spread;

/**
 * The REST routes: each is another spelling of an RPC. The one table that the router, the OpenAPI description and the tests
 * read. Fields of the RPC's request that are neither in the path nor the body are parameters, under their proto names.
 */
export const REST_ROUTES = [
	{ method: "GET", path: "/v1/audit/events", rpc: "query" },
	{ method: "POST", path: "/v1/audit/events", rpc: "writeEvent", body: "event" },
	{ method: "POST", path: "/v1/audit/events:batch", rpc: "batchWrite", body: "*" },
	{
		method: "GET",
		path: "/v1/audit/events:export",
		rpc: "export",
		spread: WHOLE_SEARCH,
		streams: ["text/csv", "application/x-ndjson", "application/vnd.apache.parquet"],
	},
	{ method: "GET", path: "/v1/audit/events:aggregate", rpc: "aggregate", spread: UNORDERED_SEARCH },
	{ method: "GET", path: "/v1/audit/events/{id}", rpc: "getEvent", responseBody: "event" },
] as const satisfies readonly RestRoute[];

export interface RestRoute {
	readonly method: "GET" | "POST";
	/** `{name}` stands for one part of the path: the request's field of that name. */
	readonly path: string;
	readonly rpc: string;
	/** The request's field that the body is, or `*`: the body is the request. */
	readonly body?: string;
	/** The request's field whose fields are parameters, too. */
	readonly spread?: Spread;
	/** The response's field that the answer is; absent: the answer is the response. */
	readonly responseBody?: string;
	/** The answer is a file, of one of these types: the bytes that the RPC streams. */
	readonly streams?: readonly string[];
}

/** The RPCs that have a route. */
export type RestRpc = (typeof REST_ROUTES)[number]["rpc"];
