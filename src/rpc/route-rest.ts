import { create, type JsonObject } from "@bufbuild/protobuf";
import type { Authenticator } from "../auth/authenticator.ts";
import { authorize } from "../auth/permissions.ts";
import { AuditError } from "../errors.ts";
import { type Decoded, decodeEventJson, decodeJson } from "../event/decode.ts";
import { memberPath } from "../event/field-path.ts";
import { LIMITS } from "../event/limits.ts";
import {
	AggregateRequestSchema,
	AggregateResponseSchema,
	BatchWriteRequestSchema,
	BatchWriteResponseSchema,
	ExportRequestSchema,
	GetEventRequestSchema,
	QueryRequestSchema,
	QueryResponseSchema,
	WriteEventRequestSchema,
	WriteEventResponseSchema,
} from "../gen/audit/v1/audit_service_pb.ts";
import { EventSchema } from "../gen/audit/v1/event_pb.ts";
import type { AuditServiceCalls } from "./audit-service.ts";
import { type Call, type NodeRequest, type NodeResponse, principalOf, type Route } from "./call.ts";
import { type Budgets, CallBounds } from "./call-bounds.ts";
import { asAuditError, goingAway, malformedRequest } from "./errors.ts";
import { answerBytesOf, type DoorLimits, deadlineOf } from "./limits.ts";
import { readBody } from "./rest-body.ts";
import { RestFile, withoutQuery, withWords } from "./rest-file.ts";
import { restJson } from "./rest-json.ts";
import { readParams } from "./rest-params.ts";
import { sendError, sendJson } from "./rest-response.ts";
import { REST_ROUTES, type RestRpc, UNORDERED_SEARCH, WHOLE_SEARCH } from "./rest-routes.ts";
import type { StreamPlaces } from "./stream-limits.ts";
import { messagesUntil } from "./until-stopped.ts";
import { messagesWhileAuthenticated } from "./while-authenticated.ts";

export interface RestOptions {
	readonly calls: AuditServiceCalls;
	readonly authenticator: Authenticator;
	readonly budgets: Budgets;
	readonly limits: DoorLimits;
	/** Of streams, at every door. */
	readonly places: StreamPlaces;
	/** Aborted when the service is to stop. */
	readonly stopping: AbortSignal;
}

interface RestCall {
	readonly call: Call;
	readonly params: URLSearchParams;
	/** The last part of the path, where the route has one open. */
	readonly id: string;
	readonly readBody: () => Promise<Uint8Array>;
	readonly bounds: CallBounds;
}

interface RestMethod {
	/** The RPC it is another spelling of. */
	readonly rpc: RestRpc;
	run(rest: RestCall): Promise<JsonObject | RestFile>;
}

/** The REST routes: the RPCs again, for whoever has nothing but an HTTP client. */
export function routeRest({ calls, authenticator, budgets, limits, places, stopping }: RestOptions): Route {
	const resources = restResources({ ...restMethods(calls), export: exportMethod({ calls, places, stopping }) });
	return (request, response, call) => {
		const url = urlOf(request);
		const path = url?.pathname ?? "";
		const resource = resources.find(({ pattern }) => pattern.test(path));
		if (!url || !resource) return undefined;
		const id = resource.pattern.exec(path)?.[1] ?? "";
		const method = request.method === "HEAD" ? resource.methods.GET : resource.methods[request.method ?? ""];
		if (!method) return refuseMethod(request, response, call, Object.keys(resource.methods));
		call.name = `REST ${method.rpc}`;
		const bounds = new CallBounds(request, response, call, { ms: deadlineOf(method.rpc, limits), budgets });
		const answer = async () => {
			call.authenticate = () => authenticator.authenticate(call.credentials);
			call.principal = await call.authenticate();
			// Before the body: who may not call this at all is not listened to.
			authorize(call.principal, method.rpc, []);
			await bounds.roomForAnswer(answerBytesOf(method.rpc));
			const told = { type: headerOf(request, "content-type"), encoding: headerOf(request, "content-encoding") };
			return method.run({ call, params: url.searchParams, id, bounds, readBody: () => readBody(bounds, told) });
		};
		return bounds.inTime(answer()).then(
			(answer) =>
				answer instanceof RestFile ? answer.send(request, response) : sendJson(request, response, 200, answer),
			(error: unknown) => sendError(request, response, call, asAuditError(error)),
		);
	};
}

/** The answer to a path that is nobody's. */
export const routeNowhere: Route = (request, response, call) => {
	const error = new AuditError("not_found", "there is nothing at this path", { reason: "ROUTE_NOT_FOUND" });
	return sendError(request, response, call, error);
};

interface RestResource {
	readonly pattern: RegExp;
	readonly methods: Readonly<Record<string, RestMethod>>;
}

/** The routes by path: a path with another method is answered with what there is. */
function restResources(methods: Readonly<Record<RestRpc, RestMethod>>): RestResource[] {
	return [...Map.groupBy(REST_ROUTES, ({ path }) => path)].map(([path, routes]) => ({
		pattern: new RegExp(`^${path.replace(/\{\w+\}/, "([^/]+)")}$`),
		methods: Object.fromEntries(routes.map(({ method, rpc }) => [method, methods[rpc]])),
	}));
}

function restMethods(calls: AuditServiceCalls): Record<Exclude<RestRpc, "export">, RestMethod> {
	const query: RestMethod = {
		rpc: "query",
		async run({ call, params }) {
			const request = taken(readParams(QueryRequestSchema, params));
			return restJson(QueryResponseSchema, await calls.query(request, call));
		},
	};
	const writeEvent: RestMethod = {
		rpc: "writeEvent",
		async run({ call, params, readBody }) {
			refuseParams(params);
			const event = taken(decodeEventJson(await readBody()));
			const request = create(WriteEventRequestSchema, { event });
			return restJson(WriteEventResponseSchema, await calls.writeEvent(request, call, ""));
		},
	};
	const batchWrite: RestMethod = {
		rpc: "batchWrite",
		async run({ call, params, readBody }) {
			refuseParams(params);
			const request = taken(decodeJson(BatchWriteRequestSchema, await readBody()));
			return restJson(BatchWriteResponseSchema, await calls.batchWrite(request, call));
		},
	};
	const getEvent: RestMethod = {
		rpc: "getEvent",
		async run({ call, params, id }) {
			const request = taken(readParams(GetEventRequestSchema, withId(params, id)));
			const { event } = await calls.getEvent(request, call);
			if (!event) throw new Error("GetEvent answered without an event");
			return restJson(EventSchema, event);
		},
	};
	const aggregate: RestMethod = {
		rpc: "aggregate",
		async run({ call, params }) {
			const request = taken(readParams(AggregateRequestSchema, params, UNORDERED_SEARCH));
			return restJson(AggregateResponseSchema, await calls.aggregate(request, call, ""));
		},
	};
	return { query, writeEvent, batchWrite, getEvent, aggregate };
}

/** A file that goes on for as long as its caller reads it, and has the bounds of a streaming RPC. */
function exportMethod({ calls, places, stopping }: Pick<RestOptions, "calls" | "places" | "stopping">): RestMethod {
	return {
		rpc: "export",
		async run({ call, params, bounds }) {
			call.isStream = true;
			places.take(principalOf(call), bounds);
			const over = new AbortController();
			bounds.whenOver(() => over.abort());
			return withoutQuery(async () => {
				const request = taken(readParams(ExportRequestSchema, withWords(params), WHOLE_SEARCH));
				const messages = await calls.export(request, call, over.signal);
				return RestFile.open(
					messagesUntil(messagesWhileAuthenticated(messages, call, over.signal), stopping, goingAway),
					over.signal,
				);
			});
		},
	};
}

function urlOf(request: NodeRequest): URL | undefined {
	return URL.parse(request.url ?? "", "http://audit.invalid") ?? undefined;
}

function headerOf(request: NodeRequest, name: string): string | undefined {
	const value = request.headers[name];
	return Array.isArray(value) ? value.join(", ") : value;
}

function refuseMethod(request: NodeRequest, response: NodeResponse, call: Call, methods: string[]): Promise<void> {
	const allow = [...methods, ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"].join(", ");
	if (request.method === "OPTIONS") {
		response.writeHead(204, { allow });
		response.end();
		return Promise.resolve();
	}
	const error = new AuditError("invalid_argument", `the method must be one of ${allow}`, {
		reason: "METHOD_NOT_ALLOWED",
	});
	return sendError(request, response, call, error, { status: 405, headers: { allow } });
}

function withId(params: URLSearchParams, encoded: string): URLSearchParams {
	const all = new URLSearchParams(params);
	try {
		all.append("id", decodeURIComponent(encoded));
	} catch {
		throw malformedRequest([{ field: "id", message: "must be a UUID" }]);
	}
	return all;
}

function refuseParams(params: URLSearchParams): void {
	const violations = [...new Set(params.keys())].slice(0, LIMITS.violations).map((name) => ({
		field: memberPath("", name),
		message: "is not a parameter of this route",
	}));
	if (violations.length > 0) throw malformedRequest(violations);
}

/** What was decoded, or the error for what was wrong with it. */
function taken<T>(decoded: Decoded<T>): T {
	if (decoded.ok) return decoded.input;
	throw malformedRequest(decoded.violations.map(({ field, message }) => ({ field: field || "body", message })));
}
