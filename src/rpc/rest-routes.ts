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
		streams: ["text/csv", "application/x-ndjson", "application/vnd.apache.parquet"],
	},
	{ method: "GET", path: "/v1/audit/events/{id}", rpc: "getEvent", responseBody: "event" },
] as const satisfies readonly RestRoute[];

export interface RestRoute {
	readonly method: "GET" | "POST";
	/** `{name}` stands for one part of the path: the request's field of that name. */
	readonly path: string;
	readonly rpc: string;
	/** The request's field that the body is, or `*`: the body is the request. */
	readonly body?: string;
	/** The response's field that the answer is; absent: the answer is the response. */
	readonly responseBody?: string;
	/** The answer is a file, of one of these types: the bytes that the RPC streams. */
	readonly streams?: readonly string[];
}

/** The RPCs that have a route. */
export type RestRpc = (typeof REST_ROUTES)[number]["rpc"];
