import type { JsonObject } from "@bufbuild/protobuf";
import { type EventRow, fields } from "./event-forms.ts";

/** Every limit on one event: what reaches it exactly is taken, what goes one beyond is refused, at every door. */

type Init = Parameters<typeof fields>[0];

function limit(what: string, size: number, path: string, of: (size: number) => Init, asItIs = false): EventRow[] {
	return [
		{ row: 56, what: `${what}: ${size}`, event: fields(of(size)), asItIs },
		{
			row: 56,
			what: `${what}: ${size + 1}`,
			event: fields(of(size + 1)),
			refused: { kind: "invalid", fields: [path] },
		},
	];
}

const times = (count: number, item: object) => Array.from({ length: count }, () => item);
const text = (bytes: number) => "é".repeat(bytes >> 1) + "x".repeat(bytes & 1);
const nested = (depth: number): JsonObject => (depth === 1 ? { n: 1 } : { n: nested(depth - 1) });
const DEEP = `metadata${".n".repeat(32)}`;
const keyPath = (key: string) => `metadata.${JSON.stringify(key.slice(0, 64))}`;
const resource = { id: "r" };

export const LIMITS: readonly EventRow[] = [
	...limit("bytes of a tenant id", 128, "tenant_id", (n) => ({ tenantId: "a".repeat(n) }), true),
	...limit("bytes of an action", 127, "action", (n) => ({ action: "a".repeat(n) }), true),
	...limit("bytes of an actor's id", 256, "actor.id", (n) => ({ actor: { id: text(n) } })),
	...limit("bytes of an actor's name", 1024, "actor.display_name", (n) => ({
		actor: { id: "a", displayName: text(n) },
	})),
	...limit("bytes of an actor's address", 320, "actor.email", (n) => ({ actor: { id: "a", email: text(n) } })),
	...limit("bytes of a resource's type", 256, "primary_resource.type", (n) => ({
		primaryResource: { ...resource, type: text(n) },
	})),
	...limit("bytes of a resource's id", 256, "primary_resource.id", (n) => ({ primaryResource: { id: text(n) } })),
	...limit("bytes of a resource's role", 256, "related_resources[0].role", (n) => ({
		relatedResources: [{ ...resource, role: text(n) }],
	})),
	...limit("bytes of a resource's name", 1024, "primary_resource.display_name", (n) => ({
		primaryResource: { ...resource, displayName: text(n) },
	})),
	...limit("related resources", 32, "related_resources", (n) => ({ relatedResources: times(n, resource) })),
	...limit("actors acted for", 8, "on_behalf_of", (n) => ({ onBehalfOf: times(n, { id: "a" }) })),
	...limit("bytes of a source", 256, "source", (n) => ({ source: text(n) })),
	...limit("bytes of a request id", 256, "context.request_id", (n) => ({ context: { requestId: text(n) } })),
	...limit("bytes of a trace id", 256, "context.trace_id", (n) => ({ context: { traceId: text(n) } })),
	...limit("bytes of a session id", 256, "context.session_id", (n) => ({ context: { sessionId: text(n) } })),
	...limit("bytes of a user agent", 4096, "context.user_agent", (n) => ({ context: { userAgent: text(n) } })),
	...limit("bytes of a location", 1024, "context.location", (n) => ({ context: { location: text(n) } })),
	...limit("bytes of a description", 4096, "description", (n) => ({ description: text(n) })),
	...limit("bytes of a reason", 4096, "reason", (n) => ({ reason: text(n) })),
	...limit("bytes of an outcome's reason", 4096, "outcome_reason", (n) => ({ outcomeReason: text(n) })),
	...limit(
		"bytes of an idempotency key",
		256,
		"idempotency_key",
		(n) => ({ idempotencyKey: text(n), occurredAt: { seconds: BigInt(Math.floor(Date.now() / 1000)), nanos: 0 } }),
		true,
	),
	...limit("bytes of a retention class", 32, "retention_class", (n) => ({ retentionClass: text(n) })),
	...limit("changed fields", 1000, "changes.changed_fields", (n) => ({
		changes: { changedFields: Array(n).fill("f") },
	})),
	...limit("bytes of a changed field", 256, "changes.changed_fields[0]", (n) => ({
		changes: { changedFields: [text(n)] },
	})),
	...limit("levels of metadata", 32, DEEP, (n) => ({ metadata: nested(n) })).flatMap(asOneOfJson),
	...limit("values of metadata", 2000, "metadata", (n) => ({ metadata: { l: Array(n - 2).fill(0) } })),
	...limit("bytes of a key", 256, keyPath(text(256)), (n) => ({ metadata: { [text(n)]: 1 } })),
	...limit("bytes of an event", 262_144, "", (n) => eventOf(n)),
];

/** JSON that is too deep is not read at all; protobuf that is, is read and then judged. */
function asOneOfJson(row: EventRow): EventRow[] {
	const { json = "", bytes } = row.event;
	if (!row.refused || !bytes) return [row];
	return [
		{ ...row, event: { json }, refused: { ...row.refused, kind: "malformed" } },
		{ ...row, event: { bytes } },
	];
}

/** An event whose canonical units have this many bytes together. */
function eventOf(bytes: number): Init {
	const [actor, facts] = [
		'{"actor":{"id":"jane"}}',
		'{"outcome":"OUTCOME_SUCCESS","retention_class":"standard","severity":"SEVERITY_INFO"}',
	];
	return { metadata: { a: "x".repeat(bytes - actor.length - facts.length - '{"a":""}'.length) } };
}
