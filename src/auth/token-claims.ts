import type { JWTPayload } from "jose";
import { AuditError } from "../errors.ts";
import { isTenantId } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import type { JwtSettings } from "./jwt-settings.ts";
import { MASKABLE_UNITS, type MaskableUnit, maskedUnitsOf, type Principal, ROLES, type Role } from "./principal.ts";

/** What a token allows. */
export type TokenGrant = Pick<Principal, "roles" | "tenants" | "maskedUnits">;

/** All tenants, said in so many words: a token without the claim is good for none. */
const ALL = "*";

/**
 * Reads what a token that is to be believed allows.
 *
 * @throws AuditError `permission_denied` if that is nothing: who it is for is known, but may do nothing here
 */
export function grantOf(payload: JWTPayload, claims: JwtSettings["claims"]): TokenGrant {
	const words = wordsOf(claimOf(payload, claims.roles));
	// The issuer's other roles are of other services.
	const roles = new Set(ROLES.filter((role) => words.includes(role)));
	if (roles.size === 0) throw withoutRole();
	return {
		roles,
		tenants: tenantsOf(wordsOf(claimOf(payload, claims.tenants))),
		maskedUnits: maskedUnits(roles, claims.maskedUnits ? wordsOf(claimOf(payload, claims.maskedUnits)) : []),
	};
}

function tenantsOf(words: readonly string[]): Principal["tenants"] {
	if (words.length === 1 && words[0] === ALL) return "all";
	if (words.length === 0 || !words.every(isTenantId)) throw withoutTenant();
	return new Set<TenantId>(words);
}

function maskedUnits(roles: ReadonlySet<Role>, words: readonly string[]): Principal["maskedUnits"] {
	const units = MASKABLE_UNITS.filter((unit) => words.includes(unit));
	// What is to be hidden and not known cannot be hidden.
	if (units.length !== new Set(words).size) throw unknownUnit();
	return maskedUnitsOf(roles, units satisfies MaskableUnit[]);
}

/** A claim by its name, which may be a URL, or by its path. */
function claimOf(payload: JWTPayload, name: string): unknown {
	if (Object.hasOwn(payload, name)) return payload[name];
	return name
		.split(".")
		.reduce<unknown>(
			(value, part) =>
				typeof value === "object" && value !== null && Object.hasOwn(value, part)
					? (value as Record<string, unknown>)[part]
					: undefined,
			payload,
		);
}

/** A list, or words separated by spaces as in `scope`. Anything else in it is a word that nothing is called. */
function wordsOf(claim: unknown): string[] {
	if (typeof claim === "string") return claim.split(" ").filter((word) => word !== "");
	if (Array.isArray(claim)) return claim.map((word) => (typeof word === "string" ? word : ""));
	return claim === undefined || claim === null ? [] : [""];
}

function withoutRole(): AuditError {
	return new AuditError("permission_denied", `this token names no role: it must be one of ${ROLES.join(", ")}`, {
		reason: "ROLE_NOT_PERMITTED",
	});
}

function withoutTenant(): AuditError {
	return new AuditError("permission_denied", "this token must name its tenants, and nothing else as a tenant", {
		reason: "TENANT_NOT_PERMITTED",
	});
}

function unknownUnit(): AuditError {
	return new AuditError("permission_denied", `masked units must be some of ${MASKABLE_UNITS.join(", ")}`, {
		reason: "MASKED_UNITS_UNKNOWN",
	});
}
