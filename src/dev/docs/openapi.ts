import type { DescEnum, DescField, DescMessage, DescMethod } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { FILE_HEADER_MEANINGS } from "../../rpc/rest-file.ts";
import { parametersOf } from "../../rpc/rest-params.ts";
import { STATUS } from "../../rpc/rest-response.ts";
import { REST_ROUTES, type RestRoute } from "../../rpc/rest-routes.ts";
import { commentOf, isRequired, type Protos, rulesOf } from "./protos.ts";

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
type JsonObject = { readonly [name: string]: Json };

/** The OpenAPI 3.1 description of the REST routes, from the table of routes and the protos. */
export function openApi(protos: Protos, version: string): JsonObject {
	const schemas = new Schemas();
	const paths: Record<string, Record<string, Json>> = {};
	for (const route of REST_ROUTES) {
		const path = paths[route.path] ?? {};
		path[route.method.toLowerCase()] = operation(route, rpcOf(protos, route.rpc), schemas);
		paths[route.path] = path;
	}
	return {
		openapi: "3.1.0",
		info: {
			title: "Audit Log",
			version,
			summary: "The REST routes of the audit log service.",
			description:
				"The RPCs of `audit.v1.AuditService` again, for whoever has nothing but an HTTP client. Names are snake_case, in and out; lowerCamel names are accepted too. Unknown parameters and properties are refused. Times have six fractional digits and `Z`. Sizes named in descriptions are UTF-8 bytes. Bodies may be compressed with gzip.",
			license: { name: "Apache-2.0", identifier: "Apache-2.0" },
		},
		servers: [{ url: "http://localhost:8080" }],
		security: [{ bearer: [] }, { apiKey: [] }],
		paths,
		components: {
			schemas: { ...schemas.all(), Error: ERROR },
			responses: { Error: ERROR_RESPONSE },
			securitySchemes: {
				bearer: { type: "http", scheme: "bearer", description: "An API key: `al_…`." },
				apiKey: {
					type: "apiKey",
					in: "header",
					name: "x-api-key",
					description: "The same key in a header of its own.",
				},
			},
		},
	};
}

function rpcOf({ services }: Protos, name: string): DescMethod {
	const method = services.flatMap(({ methods }) => methods).find(({ localName }) => localName === name);
	if (!method) throw new Error(`a route is another spelling of ${name}, which is no RPC`);
	return method;
}

function operation(route: RestRoute, rpc: DescMethod, schemas: Schemas): JsonObject {
	const { body, responseBody, path, spread } = route;
	const inPath = (field: DescField) => path.includes(`{${field.name}}`);
	const asParameters = body === undefined ? parametersOf(rpc.input, spread) : [];
	const answer = responseBody === undefined ? rpc.output : fieldOf(rpc.output, responseBody);
	const [summary = ""] = commentOf(rpc).split(/(?<=\.)\s/);
	return {
		operationId: rpc.localName,
		summary,
		description: commentOf(rpc),
		...(asParameters.length > 0 && {
			parameters: asParameters.map((field) => parameter(field, inPath(field) ? "path" : "query", schemas)),
		}),
		...(body !== undefined && {
			requestBody: {
				required: true,
				content: inJson(schemas.reference(body === "*" ? rpc.input : fieldOf(rpc.input, body))),
			},
		}),
		responses: {
			"200": route.streams
				? { description: "The file.", headers: FILE_HEADERS, content: inTypes(route.streams) }
				: { description: "Done.", content: inJson(schemas.reference(answer)) },
			...Object.fromEntries(errorStatuses().map((status) => [status, { $ref: "#/components/responses/Error" }])),
		},
	};
}

/** Besides the codes' own: a method that is not there, and a body that is too large. */
function errorStatuses(): string[] {
	return [...new Set([405, 413, ...Object.values(STATUS)])].sort((a, b) => a - b).map(String);
}

function inJson(schema: Json): JsonObject {
	return { "application/json": { schema } };
}

function inTypes(types: readonly string[]): JsonObject {
	return Object.fromEntries(types.map((type) => [type, { schema: { type: "string" } }]));
}

function fieldOf(message: DescMessage, name: string): DescMessage {
	const field = message.fields.find((candidate) => candidate.name === name);
	if (!field?.message) throw new Error(`${message.typeName} has no message ${name}`);
	return field.message;
}

function parameter(field: DescField, place: "path" | "query", schemas: Schemas): JsonObject {
	return {
		name: field.name,
		in: place,
		description: commentOf(field),
		...(isRequired(field) && { required: true }),
		...(field.fieldKind === "list" && { style: "form", explode: true }),
		schema: schemas.ofField(field),
	};
}

/** The schemas of messages and enums, collected as they are referred to. */
class Schemas {
	readonly #all = new Map<string, Json>();

	all(): JsonObject {
		return Object.fromEntries([...this.#all].sort(([a], [b]) => (a < b ? -1 : 1)));
	}

	reference(desc: DescMessage | DescEnum): JsonObject {
		if (!this.#all.has(desc.name)) {
			// First the name: messages may refer to themselves.
			this.#all.set(desc.name, true);
			this.#all.set(desc.name, desc.kind === "message" ? this.#message(desc) : enumeration(desc));
		}
		return { $ref: `#/components/schemas/${desc.name}` };
	}

	/** A field's schema without its comment. */
	ofField(field: DescField): JsonObject {
		if (field.fieldKind !== "list") return this.#single(field);
		const rules = rulesOf(field)?.type;
		const { minItems = 0n, maxItems = 0n } = rules?.case === "repeated" ? rules.value : {};
		return {
			type: "array",
			items: this.#single(field),
			...(minItems > 0n && { minItems: Number(minItems) }),
			...(maxItems > 0n && { maxItems: Number(maxItems) }),
		};
	}

	#single(field: DescField): JsonObject {
		if (field.message) return wellKnown(field.message) ?? this.reference(field.message);
		if (field.enum) return this.reference(field.enum);
		return scalar(field);
	}

	#message(message: DescMessage): JsonObject {
		const required = message.fields.filter(isRequired).map(({ name }) => name);
		return {
			type: "object",
			description: commentOf(message),
			properties: Object.fromEntries(
				message.fields.map((field) => {
					const description = commentOf(field);
					const readOnly = description.startsWith("Output only") && { readOnly: true };
					return [field.name, { ...this.ofField(field), description, ...readOnly }];
				}),
			),
			...(required.length > 0 && { required }),
		};
	}
}

function enumeration(desc: DescEnum): JsonObject {
	const lines = desc.values.map((value) => `- \`${value.name}\`: ${commentOf(value)}`);
	return {
		description: `${commentOf(desc)}\n\n${lines.join("\n")}\n\nA number the service has no name for stays a number.`,
		anyOf: [
			{ type: "string", enum: desc.values.map(({ name }) => name) },
			{ type: "integer", format: "int32" },
		],
	};
}

function wellKnown({ typeName }: DescMessage): JsonObject | undefined {
	if (typeName === "google.protobuf.Timestamp") return { type: "string", format: "date-time" };
	if (typeName === "google.protobuf.Struct") return { type: "object", additionalProperties: true };
	if (typeName === "google.protobuf.Value") return {};
	return undefined;
}

function scalar(field: DescField): JsonObject {
	const rules = rulesOf(field)?.type;
	if (field.scalar === ScalarType.STRING) {
		return { type: "string", ...(rules?.case === "string" && textRules(rules.value)) };
	}
	const schema = field.scalar === undefined ? undefined : SCALARS[field.scalar];
	if (!schema) throw new Error(`${field.toString()} has a type that the generator does not know yet`);
	return schema;
}

/** As protobuf's JSON has them: 64-bit numbers are texts, because JavaScript's numbers are too small. */
const SCALARS: Partial<Record<ScalarType, JsonObject>> = {
	[ScalarType.BYTES]: { type: "string", contentEncoding: "base64" },
	[ScalarType.BOOL]: { type: "boolean" },
	[ScalarType.INT32]: { type: "integer", format: "int32" },
	[ScalarType.UINT32]: { type: "integer", format: "int32", minimum: 0 },
	[ScalarType.INT64]: { type: "string", format: "int64", pattern: "^-?[0-9]+$" },
};

/** A string of that many bytes has no more characters. */
function textRules(rules: {
	minBytes: bigint;
	maxBytes: bigint;
	pattern: string;
	wellKnown: { case?: string | undefined };
}) {
	return {
		...(rules.minBytes > 0n && { minLength: Number(rules.minBytes) }),
		...(rules.maxBytes > 0n && { maxLength: Number(rules.maxBytes) }),
		...(rules.pattern !== "" && { pattern: rules.pattern }),
		...(rules.wellKnown.case === "uuid" && { format: "uuid" }),
	};
}

const FILE_HEADERS = Object.fromEntries(
	Object.entries(FILE_HEADER_MEANINGS).map(([name, description]) => [
		name,
		{ description, schema: { type: "string" } },
	]),
);

const ERROR = {
	type: "object",
	required: ["error"],
	properties: {
		error: {
			type: "object",
			required: ["code", "reason", "message", "violations", "request_id"],
			properties: {
				code: { type: "string", enum: Object.keys(STATUS), description: "The canonical code." },
				reason: { type: "string", description: "A stable word for programs, such as `INVALID_EVENT`." },
				message: { type: "string", description: "What to change, for people. Never repeats what was sent." },
				violations: {
					type: "array",
					description: "Everything that is wrong with the request.",
					items: {
						type: "object",
						required: ["field", "message"],
						properties: {
							field: { type: "string", description: "Where, as a path such as `events[3].actor.id`." },
							message: { type: "string", description: "What is wrong." },
						},
					},
				},
				retry_after_ms: { type: "integer", description: "After how long a retry may help; absent where none does." },
				request_id: { type: "string", description: "What the service's log knows the request by." },
			},
		},
	},
} as const;

const ERROR_RESPONSE = {
	description:
		"It was refused, or failed. Nothing of it was stored, except by a call that ran out of time: send that again.",
	headers: {
		"Retry-After": { description: "Seconds, where a retry may help.", schema: { type: "integer" } },
		"X-Request-Id": { schema: { type: "string" } },
	},
	content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
} as const;
