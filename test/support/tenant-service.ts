import { createTenantClient, type TenantClient, toAuditError } from "../../src/client/index.ts";
import { type LetterService, startLetterService } from "./letter-service.ts";
import { createKey } from "./rpc-service.ts";

/** The whole service with PostgreSQL and NATS of its own; tenants are made by CreateTenant alone. */
export interface TenantTestService extends LetterService {
	/** Calls with the key of an operator of all tenants. */
	readonly tenants: TenantClient;
	/** Makes a key, and a client with it. */
	as(role: Parameters<typeof createKey>[1], tenants: readonly string[] | "all"): Promise<WithKey>;
	/** What the log of a tenant tells of the tenant itself, oldest first. */
	told(tenantId: string): Promise<Told[]>;
}

export interface WithKey {
	readonly key: string;
	/** The key's id, which is its identity too. */
	readonly id: string;
	readonly tenants: TenantClient;
}

export interface Told {
	readonly action: string;
	readonly actor: string;
	readonly changes: unknown;
	readonly metadata: unknown;
	readonly onBehalfOf: readonly { id: string }[] | null;
	readonly reason: string | null;
}

export async function startTenantService(): Promise<TenantTestService> {
	const service = await startLetterService();
	return {
		...service,
		tenants: createTenantClient({ url: service.httpUrl, key: service.key }),
		async as(role, tenants) {
			const key = await createKey(service.database.url, role, tenants);
			return { key, id: key.split("_")[1] ?? "", tenants: createTenantClient({ url: service.httpUrl, key }) };
		},
		async told(tenantId) {
			const { rows } = await service.admin.query<Told>(
				`SELECT action, actor_id AS actor, u_changes::jsonb AS changes, u_metadata::jsonb AS metadata,
				        u_actor::jsonb -> 'on_behalf_of' AS "onBehalfOf", u_reason::jsonb ->> 'reason' AS reason
				 FROM audit.events WHERE tenant_id = $1 AND action LIKE 'audit.%' ORDER BY batch_id, ord`,
				[tenantId],
			);
			return rows;
		},
	};
}

/** What a call is refused with, as `code REASON fields`; `done` if it is not. */
export async function refusalOf(call: Promise<unknown>): Promise<string> {
	try {
		await call;
		return "done";
	} catch (error) {
		const { code, reason, violations } = toAuditError(error);
		return [code, reason, ...violations.map(({ field }) => field)].join(" ");
	}
}

/** Calls an RPC of TenantService with JSON: the whole answer, as it came, but for what is new with each. */
export async function rawCall(service: { httpUrl: string }, key: string, rpc: string, body: object): Promise<string> {
	const response = await fetch(`${service.httpUrl}/audit.v1.TenantService/${rpc}`, {
		method: "POST",
		headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
		body: JSON.stringify(body),
	});
	const headers = [...response.headers].filter(([name]) => name !== "date" && name !== "x-request-id");
	return JSON.stringify([response.status, headers, await response.text()]);
}
