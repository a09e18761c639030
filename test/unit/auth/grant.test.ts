import { describe, expect, test } from "vitest";
import { type Granter, type Rights, refusalOfGrant } from "../../../src/auth/grant.ts";
import { MASKABLE_UNITS, type MaskableUnit, ROLES, type Role } from "../../../src/auth/principal.ts";
import type { TenantId } from "../../../src/event/event.ts";

const tenants = (...ids: string[]) => new Set(ids as TenantId[]);
const granter = (role: Role | Role[], changed: Partial<Granter> = {}): Granter => ({
	roles: new Set([role].flat()),
	tenants: tenants("acme", "globex"),
	maskedUnits: new Set(),
	...changed,
});
const rights = (role: Role, changed: Partial<Rights> = {}): Rights => ({
	role,
	tenants: tenants("acme"),
	maskedUnits: [],
	...changed,
});
const refused = (by: Granter, asked: Rights) => refusalOfGrant(by, asked)?.code ?? "granted";

/** Who may make keys of which role: written out, so that a change of the rule is a change here. */
const TABLE: Record<Role, string> = {
	//             writer reader exporter auditor tenant_admin operator
	writer: "      no     no     no       no      no           no",
	reader: "      no     no     no       no      no           no",
	exporter: "    no     no     no       no      no           no",
	auditor: "     no     no     no       no      no           no",
	tenant_admin: "yes    yes    yes      yes     yes          no",
	operator: "    yes    yes    yes      yes     yes          yes",
};

describe.each(ROLES)("a %s", (own) => {
	const row = TABLE[own].trim().split(/ +/);
	test.each(ROLES.map((role, i) => [role, row[i]] as const))("makes %s keys: %s", (role, may) => {
		expect(refused(granter(own), rights(role))).toBe(may === "yes" ? "granted" : "permission_denied");
	});
});

test("somebody with several roles may what one of them may", () => {
	expect(refused(granter(["reader", "tenant_admin"]), rights("writer"))).toBe("granted");
	expect(refused(granter(["reader", "tenant_admin"]), rights("operator"))).toBe("permission_denied");
});

test("nobody makes a key for a tenant that is not his: it does not exist for him", () => {
	const admin = granter("tenant_admin");
	expect(refused(admin, rights("reader", { tenants: tenants("acme", "globex") }))).toBe("granted");
	expect(refused(admin, rights("reader", { tenants: tenants("acme", "initech") }))).toBe("not_found");
	expect(refused(granter("operator"), rights("reader", { tenants: tenants("initech") }))).toBe("not_found");
	expect(refused(granter("operator", { tenants: "all" }), rights("reader", { tenants: tenants("initech") }))).toBe(
		"granted",
	);
});

test("a key for all tenants is made by whoever has all, and told apart from any list", () => {
	for (const own of ["tenant_admin", "operator"] as const) {
		expect(refused(granter(own), rights("reader", { tenants: "all" }))).toBe("permission_denied");
		expect(refused(granter(own, { tenants: "all" }), rights("reader", { tenants: "all" }))).toBe("granted");
	}
});

test("what is masked for somebody is masked for every key he makes, an auditor's anyway", () => {
	const admin = granter("tenant_admin", { maskedUnits: new Set<MaskableUnit>(["actor", "context"]) });
	const masking = (...maskedUnits: MaskableUnit[]) => refused(admin, rights("reader", { maskedUnits }));
	expect(masking()).toBe("permission_denied");
	expect(masking("actor")).toBe("permission_denied");
	expect(masking("actor", "context")).toBe("granted");
	expect(masking("actor", "context", "reason")).toBe("granted");
	expect(refused(admin, rights("auditor"))).toBe("granted");
	const blind = granter("operator", { maskedUnits: new Set(MASKABLE_UNITS) });
	expect(refused(blind, rights("operator", { maskedUnits: MASKABLE_UNITS }))).toBe("granted");
	expect(refused(blind, rights("operator", { maskedUnits: MASKABLE_UNITS.slice(1) }))).toBe("permission_denied");
});

test("whoever may not have such a key at all learns nothing of tenants", () => {
	const unknown = rights("operator", { tenants: tenants("initech") });
	expect(refused(granter("tenant_admin"), unknown)).toBe("permission_denied");
});
