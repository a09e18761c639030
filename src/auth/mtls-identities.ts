import { isTenantId } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import { normalName } from "./mtls.ts";
import { MASKABLE_UNITS, type MaskableUnit, maskedUnitsOf, type Principal, ROLES, type Role } from "./principal.ts";

/** Who is who, by a subject alternative name such as `URI:spiffe://example.com/billing` or `DNS:billing.example.com`. */
export type Identities = ReadonlyMap<string, Identity>;

type Identity = Pick<Principal, "name" | "roles" | "tenants" | "maskedUnits">;

const MEMBERS = ["san", "name", "roles", "tenants", "masked_units"];

/**
 * Reads the file of identities: a JSON list of
 * `{"san": "URI:…", "name": "billing", "roles": ["writer"], "tenants": ["acme"] or "*", "masked_units": []}`.
 *
 * @throws Error that names everything wrong with it, by its place
 */
export function parseIdentities(text: string): Identities {
	const entries = readList(text);
	const problems: string[] = [];
	const identities = new Map<string, Identity>();
	for (const [index, entry] of entries.entries()) {
		const found = problemsOf(entry);
		const san = normalName(String(entry.san));
		if (found.length === 0 && identities.has(san)) found.push("san: is another one's, too");
		problems.push(...found.map((problem) => `[${index}].${problem}`));
		if (found.length === 0) identities.set(san, identityOf(entry as unknown as CheckedEntry));
	}
	if (problems.length > 0)
		throw new Error(`AUDIT_MTLS_IDENTITIES_FILE has ${problems.length} problem(s):\n    ${problems.join("\n    ")}`);
	return identities;
}

interface CheckedEntry {
	readonly name: string;
	readonly roles: readonly Role[];
	readonly tenants: readonly TenantId[] | "*";
	readonly masked_units?: readonly MaskableUnit[];
}

function identityOf({ name, roles, tenants, masked_units = [] }: CheckedEntry): Identity {
	const all = new Set(roles);
	return {
		name,
		roles: all,
		tenants: tenants === "*" ? "all" : new Set(tenants),
		maskedUnits: maskedUnitsOf(all, masked_units),
	};
}

type Entry = Readonly<Record<string, unknown>>;

function readList(text: string): readonly Entry[] {
	let list: unknown;
	try {
		list = JSON.parse(text);
	} catch {
		throw new Error("AUDIT_MTLS_IDENTITIES_FILE is no JSON");
	}
	const isEntry = (entry: unknown) => typeof entry === "object" && entry !== null && !Array.isArray(entry);
	if (!Array.isArray(list) || !list.every(isEntry))
		throw new Error("AUDIT_MTLS_IDENTITIES_FILE must be a JSON list of objects");
	return list as Entry[];
}

function problemsOf(entry: Entry): string[] {
	const { san, name, roles, tenants, masked_units } = entry;
	const problems = Object.keys(entry)
		.filter((member) => !MEMBERS.includes(member))
		.map((member) => `${JSON.stringify(member)}: is none of ${MEMBERS.join(", ")}`);
	// A wildcard would mean whoever has a certificate for it.
	if (typeof san !== "string" || !/^(URI:.+|DNS:[^*]+)$/s.test(san)) {
		problems.push("san: must be URI:… or DNS:…, whole and without wildcards");
	}
	if (typeof name !== "string" || !/^[^\0]{1,256}$/su.test(name) || !name.isWellFormed()) {
		problems.push("name: must be 1 to 256 characters");
	}
	if (!isListOf(roles, (role) => ROLES.includes(role as Role))) {
		problems.push(`roles: must be a list of at least one of ${ROLES.join(", ")}`);
	}
	if (tenants !== "*" && !isListOf(tenants, isTenantId)) {
		problems.push('tenants: must be a list of at least one tenant, or "*" for all');
	}
	const units = masked_units ?? [];
	const isNothing = Array.isArray(units) && units.length === 0;
	if (!isNothing && !isListOf(units, (unit) => MASKABLE_UNITS.includes(unit as MaskableUnit))) {
		problems.push(`masked_units: must be a list of ${MASKABLE_UNITS.join(", ")}`);
	}
	return problems;
}

function isListOf(value: unknown, isOne: (item: string) => boolean): boolean {
	return Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "string" && isOne(item));
}
