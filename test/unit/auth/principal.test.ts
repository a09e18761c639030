import { describe, expect, test } from "vitest";
import { MASKABLE_UNITS, type MaskableUnit, maskedUnitsOf, type Role } from "../../../src/auth/principal.ts";
import { UNIT_PATHS } from "../../../src/event/event.ts";
import { MASKABLE } from "../../../src/event/unit.ts";
import { UnitSchema } from "../../../src/gen/audit/v1/event_pb.ts";

const masked = (roles: Role[], denied: MaskableUnit[] = []) => [...maskedUnitsOf(new Set(roles), denied)].sort();

describe("what is masked for somebody", () => {
	test("is everything personal for an auditor, whatever the key is denied besides", () => {
		expect(masked(["auditor"])).toEqual(MASKABLE_UNITS);
		expect(masked(["auditor"], ["actor"])).toEqual(MASKABLE_UNITS);
	});

	test("is for all others what the key is denied", () => {
		for (const role of ["reader", "exporter", "tenant_admin", "operator"] as const) {
			expect(masked([role])).toEqual([]);
			expect(masked([role], ["metadata", "actor"])).toEqual(["actor", "metadata"]);
		}
	});

	test("is what no role of several may see: who is a reader too, sees what a reader sees", () => {
		expect(masked(["auditor", "reader"])).toEqual([]);
		expect(masked(["auditor", "reader"], ["actor"])).toEqual(["actor"]);
	});

	test("is not made less by a role that sees nothing: writing is not reading", () => {
		expect(masked(["auditor", "writer"])).toEqual(MASKABLE_UNITS);
	});
});

test("every unit that can be masked has its name in the contract, and every name its unit", () => {
	expect(Object.keys(MASKABLE)).toEqual(UNIT_PATHS.filter((path) => path !== "facts"));
	expect(Object.keys(MASKABLE)).toEqual(MASKABLE_UNITS);
	const names = UnitSchema.values.filter(({ number }) => number !== 0).map(({ name, number }) => [name, number]);
	expect(names).toEqual(Object.entries(MASKABLE).map(([path, unit]) => [`UNIT_${path.toUpperCase()}`, unit]));
});
