import { AuditError, tenantNotFound } from "../errors.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { type MaskableUnit, maskedUnitsOf, maySee, type Principal, ROLES, type Role } from "./principal.ts";

/** What a key may do. */
export interface Rights {
	readonly role: Role;
	readonly tenants: ReadonlySet<TenantId> | "all";
	/** What it is denied besides what its role is denied. */
	readonly maskedUnits: readonly MaskableUnit[];
}

/** What of a caller decides which keys it may make, rotate and revoke. */
export type Granter = Pick<Principal, "roles" | "tenants" | "maskedUnits">;

/** Which keys each role may deal with. A role that is missing here does not compile. */
export const GRANTS = {
	writer: [],
	reader: [],
	exporter: [],
	auditor: [],
	tenant_admin: ["writer", "reader", "exporter", "auditor", "tenant_admin"],
	operator: ROLES,
} as const satisfies Record<Role, readonly Role[]>;

/**
 * Nobody makes, rotates or revokes a key that may do more than he himself. What says something of a tenant comes last: who
 * may not have such a key at all learns nothing of tenants.
 *
 * @returns why not: `permission_denied`, or `not_found` for a tenant the caller may not see; undefined: he may
 */
export function refusalOfGrant(granter: Granter, { role, tenants, maskedUnits }: Rights): AuditError | undefined {
	const grantable = new Set([...granter.roles].flatMap((own): readonly Role[] => GRANTS[own]));
	if (!grantable.has(role)) return notPermitted(`with the role ${role}`);
	const masked = maskedUnitsOf(new Set([role]), maskedUnits);
	const shown = [...granter.maskedUnits].filter((unit) => !masked.has(unit));
	if (shown.length > 0) return notPermitted(`for which these units are not masked: ${shown.sort().join(", ")}`);
	if (tenants === "all" && granter.tenants !== "all") return notPermitted("that is good for every tenant");
	return seesAll(granter, tenants) ? undefined : tenantNotFound();
}

/**
 * Nobody lets anybody, himself included, deal with keys for longer than he himself may. Keys of other roles may go on: a
 * backend must not stop working because of who made its key.
 *
 * @param until when the granter's own key ends, in milliseconds since 1970; undefined: never
 * @returns why not; undefined: he may
 */
export function refusalOfEnd(
	until: number | undefined,
	{ role, expiresAt }: { readonly role: Role; readonly expiresAt: Micros | undefined },
): AuditError | undefined {
	if (until === undefined || GRANTS[role].length === 0) return undefined;
	const isLater = expiresAt === undefined || Number(expiresAt / 1000n) > until;
	return isLater ? notPermitted(`with the role ${role} that works longer than your own`) : undefined;
}

/** Whether a key with these tenants exists for the caller: he sees all of them. */
export function seesAll(granter: Pick<Granter, "tenants">, tenants: Rights["tenants"]): boolean {
	if (tenants === "all") return granter.tenants === "all";
	return [...tenants].every((tenantId) => maySee(granter, tenantId));
}

function notPermitted(what: string): AuditError {
	const message = `you may not make, rotate or revoke a key ${what}: it may do more than your own`;
	return new AuditError("permission_denied", message, { reason: "GRANT_NOT_PERMITTED" });
}
