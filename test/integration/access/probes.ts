import type { RpcName } from "../../../src/auth/permissions.ts";
import { REST_ROUTES } from "../../../src/rpc/rest-routes.ts";

/** What a tenant has: names of things that others must not learn exist. */
export interface Holdings {
	readonly tenantId: string;
	readonly eventId: string;
	/** An open dead letter that cannot be redriven. */
	readonly letterId: string;
	readonly discardedLetterId: string;
	/** A reader's key. */
	readonly keyId: string;
	readonly revokedKeyId: string;
	/** Stands in whatever the tenant has that can be read. */
	readonly canary: string;
}

/** One way to ask for what a tenant has. */
export interface Probe {
	readonly rpc: string;
	readonly localName: RpcName;
	/** Whose; `closing` where the right caller's call would close the tenant. */
	readonly of: "acme" | "closing";
	/** What the right caller gets to see of it. */
	readonly shows: "canary" | "letterId" | "nothing";
	/** @param caller is written into what is written */
	request(of: Holdings, caller: string): object;
}

type Request = Probe["request"];

function probe(rpc: string, shows: Probe["shows"], request: Request, of: Probe["of"] = "acme"): Probe {
	const name = rpc.slice(rpc.indexOf("/") + 1);
	const localName = (name.charAt(0).toLowerCase() + name.slice(1)) as RpcName;
	return { rpc: `audit.v1.${rpc}`, localName, of, shows, request };
}

const event = (tenantId: string, caller: string) => ({
	tenant_id: tenantId,
	action: "matrix.tried",
	actor: { id: caller },
});

/** Every RPC that needs a key, at least once. One that reflection lists and that is missing here fails the test. */
export const PROBES: readonly Probe[] = [
	probe("AuditService/WriteEvent", "nothing", ({ tenantId }, caller) => ({ event: event(tenantId, caller) })),
	probe("AuditService/BatchWrite", "nothing", ({ tenantId }, caller) => ({
		events: [event(tenantId, caller)],
		mode: "BATCH_WRITE_MODE_ATOMIC",
	})),
	probe("AuditService/BatchWrite", "nothing", ({ tenantId }, caller) => ({ events: [event(tenantId, caller)] })),
	probe("AuditService/Query", "canary", ({ tenantId }) => ({ tenant_id: tenantId, actions: ["user.login"] })),
	probe("AuditService/Query", "canary", ({ tenantId, eventId }) => ({ tenant_id: tenantId, ids: [eventId] })),
	probe("AuditService/Aggregate", "canary", ({ tenantId }) => ({
		query: { tenant_id: tenantId, actions: ["user.login"] },
	})),
	probe("AuditService/GetEvent", "canary", ({ tenantId, eventId }) => ({ tenant_id: tenantId, id: eventId })),
	probe("AuditService/Export", "canary", ({ tenantId, eventId }) => ({
		query: { tenant_id: tenantId, ids: [eventId] },
		format: "EXPORT_FORMAT_CSV",
		columns: ["id", "actor_id", "action"],
	})),
	probe("DeadLetterService/ListDeadLetters", "letterId", ({ tenantId }) => ({ filter: { tenant_id: tenantId } })),
	probe("DeadLetterService/GetDeadLetter", "canary", ({ letterId }) => ({ id: letterId })),
	probe("DeadLetterService/RedriveDeadLetters", "nothing", ({ letterId }) => ({ ids: [letterId] })),
	probe("DeadLetterService/RedriveDeadLetters", "nothing", ({ tenantId }) => ({ filter: { tenant_id: tenantId } })),
	probe("DeadLetterService/DiscardDeadLetters", "nothing", ({ discardedLetterId }) => ({
		ids: [discardedLetterId],
		reason: "a test",
	})),
	probe("AccessService/CreateApiKey", "nothing", ({ tenantId }, caller) => ({
		name: caller,
		role: "ROLE_READER",
		tenant_ids: [tenantId],
	})),
	probe("AccessService/ListApiKeys", "canary", ({ tenantId }) => ({ tenant_id: tenantId, page_size: 1000 })),
	probe("AccessService/RotateApiKey", "canary", ({ keyId }) => ({ id: keyId })),
	probe("AccessService/RevokeApiKey", "canary", ({ revokedKeyId }) => ({ id: revokedKeyId })),
	probe("TenantService/CreateTenant", "canary", ({ tenantId, canary }) => ({ id: tenantId, name: canary })),
	probe("TenantService/ListTenants", "canary", () => ({ page_size: 1000 })),
	probe("TenantService/RenameTenant", "canary", ({ tenantId, canary }) => ({ id: tenantId, name: canary })),
	probe("TenantService/DisableTenant", "canary", ({ tenantId }) => ({ id: tenantId, reason: "a test" }), "closing"),
	probe("TenantService/EnableTenant", "canary", ({ tenantId }) => ({ id: tenantId, reason: "a test" }), "closing"),
];

/** The probe as a request of REST, once for each route of its RPC. */
export function restRequests(
	probe: Probe,
	request: object,
): { method: string; path: string; body: string | undefined }[] {
	return REST_ROUTES.filter(({ rpc }) => rpc === probe.localName).map((route) => {
		const spread = "spread" in route ? route.spread.field : "";
		const rest = new Map(
			Object.entries(request).flatMap(([name, value]: [string, object]) =>
				name === spread ? Object.entries(value) : [[name, value]],
			),
		);
		const path = route.path.replace(/\{(\w+)\}/, (_, field: string) => {
			const value = String(rest.get(field));
			rest.delete(field);
			return encodeURIComponent(value);
		});
		if ("body" in route) {
			const body: unknown = route.body === "*" ? request : rest.get(route.body);
			return { method: route.method, path, body: JSON.stringify(body) };
		}
		const params = new URLSearchParams(
			[...rest].flatMap(([name, value]) => [value].flat().map((v) => [name, String(v)])),
		);
		return { method: route.method, path: `${path}?${params.toString()}`, body: undefined };
	});
}
