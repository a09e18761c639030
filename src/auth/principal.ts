import type { TenantId } from "../event/event.ts";

/** What a key may do. An operator may do everything, on the tenants its key names. */
export type Role = "writer" | "reader" | "operator";

/** Who is calling, as far as it matters: a checked API key. */
export interface Principal {
	readonly keyId: string;
	readonly role: Role;
	/** The tenants the key is good for. */
	readonly tenants: ReadonlySet<TenantId> | "all";
}

/** The tenant a call may leave out: the only one its key is bound to. */
export function boundTenant(principal: Principal): TenantId | undefined {
	if (principal.tenants === "all" || principal.tenants.size !== 1) return undefined;
	const [only] = principal.tenants;
	return only;
}

export function maySee(principal: Principal, tenantId: TenantId): boolean {
	return principal.tenants === "all" || principal.tenants.has(tenantId);
}
