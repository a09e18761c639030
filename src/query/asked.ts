import { type JsonObject, toJson } from "@bufbuild/protobuf";
import { Order, type QueryRequest, QueryRequestSchema } from "../gen/audit/v1/audit_service_pb.ts";
import type { Search } from "./filter.ts";

/** What was asked for: not whose log, nor how much of it at once, nor in which order. */
export interface Asked {
	/** As the caller put it, with the contract's own names. */
	readonly stated: JsonObject;
	/** The same for the same question, however it was put. */
	readonly canonical: string;
}

export function askedBy(request: QueryRequest, search: Search): Asked {
	const filters = { ...request, tenantId: "", pageSize: 0, pageToken: "", order: Order.UNSPECIFIED };
	const { tenantId: _tenant, pageSize: _size, newestFirst: _order, ...canonical } = search;
	return {
		stated: toJson(QueryRequestSchema, filters, { useProtoFieldName: true }) as JsonObject,
		canonical: canonicalText(canonical),
	};
}

/** What passed all checks, as text: the same whatever the order its members came in. */
export function canonicalText(checked: object): string {
	const sorted = Object.entries(checked).sort(([a], [b]) => (a < b ? -1 : 1));
	return JSON.stringify(sorted, (_name, value: unknown) => (typeof value === "bigint" ? `${value}` : value));
}
