import { type TenantId, UNIT_PATHS, type UnitPath } from "../event/event.ts";

/** What a caller may do (CONTRACT §9). `auth/permissions.ts` says which RPCs that is. */
export const ROLES = ["writer", "reader", "exporter", "auditor", "tenant_admin", "operator"] as const;
export type Role = (typeof ROLES)[number];

/** The parts of an event that may hold personal data: all but `facts`. */
export type MaskableUnit = Exclude<UnitPath, "facts">;

export const MASKABLE_UNITS: readonly MaskableUnit[] = UNIT_PATHS.filter((path) => path !== "facts");

/** Who is calling, proven by a credential that is good at this moment. */
export interface Principal {
	readonly kind: "api_key" | "jwt" | "mtls";
	/** The same for every credential of the same identity: what limits and records go by. Never personal. */
	readonly id: string;
	/** The credential: what an event's facts name for ever. Never personal. */
	readonly keyId: string;
	/** For people; may be personal. */
	readonly name: string;
	/** One at least. What each of them may, the principal may. */
	readonly roles: ReadonlySet<Role>;
	/** The tenants it is good for. */
	readonly tenants: ReadonlySet<TenantId> | "all";
	/** What it may neither see nor ask for. */
	readonly maskedUnits: ReadonlySet<MaskableUnit>;
	/** Milliseconds since 1970 from which on the credential is good for nothing; undefined: never. */
	readonly expiresAt: number | undefined;
}

export const NOTHING_MASKED: ReadonlySet<MaskableUnit> = new Set();
const EVERYTHING: ReadonlySet<MaskableUnit> = new Set(MASKABLE_UNITS);

/** What is masked for somebody: what every one of the roles that read is denied, and what is denied besides. */
export function maskedUnitsOf(roles: ReadonlySet<Role>, denied: Iterable<MaskableUnit>): ReadonlySet<MaskableUnit> {
	// A writer reads nothing: being one too lets nobody see more.
	if (roles.has("auditor") && [...roles].every((role) => role === "auditor" || role === "writer")) return EVERYTHING;
	const masked = new Set(denied);
	return masked.size === 0 ? NOTHING_MASKED : masked;
}

/** The tenant a call may leave out: the only one its caller is bound to. */
export function boundTenant(principal: Pick<Principal, "tenants">): TenantId | undefined {
	if (principal.tenants === "all" || principal.tenants.size !== 1) return undefined;
	const [only] = principal.tenants;
	return only;
}

export function maySee(principal: Pick<Principal, "tenants">, tenantId: TenantId): boolean {
	return principal.tenants === "all" || principal.tenants.has(tenantId);
}
