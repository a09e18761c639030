import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AuditError } from "../../../src/errors.ts";
import type { TenantId } from "../../../src/event/event.ts";
import {
	CreateApiKeyRequestSchema,
	ListApiKeysRequestSchema,
	RevokeApiKeyRequestSchema,
	Role,
	RotateApiKeyRequestSchema,
} from "../../../src/gen/audit/v1/access_service_pb.ts";
import { Unit } from "../../../src/gen/audit/v1/event_pb.ts";
import { checkCreate, checkList, checkRevoke, checkRotate } from "../../../src/rpc/access-request.ts";

const ALL = { tenants: "all" } as const;
const createOf = (init: Parameters<typeof create<typeof CreateApiKeyRequestSchema>>[1]) =>
	create(CreateApiKeyRequestSchema, { name: "billing", role: Role.READER, tenantIds: ["acme"], ...init });

/** The fields refused. */
function refusedBy(check: () => unknown): string[] {
	try {
		check();
		return [];
	} catch (error) {
		if (!(error instanceof AuditError)) throw error;
		expect([error.code, error.reason]).toEqual(["invalid_argument", "INVALID_REQUEST"]);
		return error.violations.map(({ field }) => field);
	}
}

describe("a key to be made", () => {
	const refused = (init: Parameters<typeof createOf>[0]) => refusedBy(() => checkCreate(createOf(init), ALL));
	const days = (count: number) => timestampFromMs(Date.now() + count * 86_400_000);

	test("is told everything that is wrong with it at once", () => {
		const all = {
			name: "a\u0007",
			role: 99 as Role,
			tenantIds: ["a b", "acme", "acme"],
			allTenants: true,
			maskedUnits: [Unit.ACTOR, Unit.UNSPECIFIED, 99 as Unit, Unit.ACTOR],
			expiresAt: days(-1),
		};
		expect(refused(all)).toEqual([
			"name",
			"role",
			"tenant_ids[0]",
			"tenant_ids[2]",
			"all_tenants",
			"masked_units[1]",
			"masked_units[2]",
			"masked_units[3]",
			"expires_at",
		]);
	});

	test("has a name of up to 256 bytes, a role, and up to 100 tenants", () => {
		expect(refused({ name: "é".repeat(128) })).toEqual([]);
		expect(refused({ name: `${"é".repeat(128)}x` })).toEqual(["name"]);
		expect(refused({ name: "", role: 0 })).toEqual(["name", "role"]);
		const ids = Array.from({ length: 101 }, (_, i) => `t${i}`);
		expect(refused({ tenantIds: ids.slice(1) })).toEqual([]);
		expect(refused({ tenantIds: ids })).toEqual(["tenant_ids"]);
	});

	test("expires in the future, at most ten years ahead, or never", () => {
		expect(refused({ expiresAt: days(1) })).toEqual([]);
		expect(refused({ expiresAt: days(3_650) })).toEqual([]);
		expect(refused({ expiresAt: days(3_655) })).toEqual(["expires_at"]);
		expect(refused({ expiresAt: { seconds: 1n, nanos: -1 } })).toEqual(["expires_at"]);
	});

	test("is of the maker's own tenant if none is named and it has one", () => {
		const request = createOf({ tenantIds: [] });
		const bound = { tenants: new Set(["globex" as TenantId]) };
		expect(checkCreate(request, bound).tenants).toEqual(bound.tenants);
		for (const several of [ALL, { tenants: new Set(["a", "b"] as TenantId[]) }]) {
			expect(refusedBy(() => checkCreate(request, several))).toEqual(["tenant_ids"]);
		}
		expect(checkCreate(createOf({ tenantIds: [], allTenants: true }), bound).tenants).toBe("all");
	});
});

test("a rotation lasts a day if nothing is said, nothing at 0, and 90 days at most", () => {
	const rotation = (seconds?: number, nanos = 0) =>
		create(RotateApiKeyRequestSchema, {
			id: "0123456789ab",
			...(seconds !== undefined && { overlap: { seconds: BigInt(seconds), nanos } }),
		});
	expect(checkRotate(rotation()).overlapMs).toBe(86_400_000);
	expect(checkRotate(rotation(0)).overlapMs).toBe(0);
	expect(checkRotate(rotation(90 * 86_400)).overlapMs).toBe(90 * 86_400_000);
	for (const wrong of [rotation(-1), rotation(90 * 86_400, 1), rotation(0, -1), rotation(0, 1e9)]) {
		expect(refusedBy(() => checkRotate(wrong))).toEqual(["overlap"]);
	}
});

describe("protovalidate, with the rules in the protos, refuses the same fields", () => {
	const validator = createValidator();
	const text = fc.oneof(
		fc.string({ unit: "grapheme", maxLength: 300 }),
		fc.constantFrom("", "acme", "x", "0123456789ab"),
	);
	const id = fc.oneof(text, fc.stringMatching(/^[0-9a-f]{11,13}$/));

	function agree<Desc extends DescMessage>(
		desc: Desc,
		given: fc.Arbitrary<MessageShape<Desc>>,
		check: (message: MessageShape<Desc>) => unknown,
	): void {
		fc.assert(
			fc.property(given, (message) => {
				const { violations = [] } = validator.validate(desc, message);
				const expected = violations.map(({ field }) => pathToString(field).replace(/\[\d+\]$/, ""));
				const own = refusedBy(() => check(message)).map((field) => field.replace(/\[\d+\]$/, ""));
				expect(new Set(own)).toEqual(new Set(expected));
			}),
		);
	}

	test("CreateApiKey", () => {
		const given = fc.record({
			name: text,
			role: fc.integer({ min: -1, max: 8 }),
			tenantIds: fc.array(fc.oneof(text, fc.constant("acme")), { minLength: 1, maxLength: 5 }),
			maskedUnits: fc.array(fc.integer({ min: -1, max: 9 }), { maxLength: 4 }),
		});
		agree(
			CreateApiKeyRequestSchema,
			given.map((init) => create(CreateApiKeyRequestSchema, init as Parameters<typeof createOf>[0])),
			(message) => checkCreate(message, ALL),
		);
	});

	test("ListApiKeys, RotateApiKey, RevokeApiKey", () => {
		const listed = fc.record({ tenantId: text, pageSize: fc.integer({ min: -3, max: 3 }) });
		agree(
			ListApiKeysRequestSchema,
			listed.map((init) => create(ListApiKeysRequestSchema, init)),
			checkList,
		);
		const rotated = fc.record({ id, seconds: fc.bigInt({ min: -2n, max: 7_776_001n }) });
		agree(
			RotateApiKeyRequestSchema,
			rotated.map(({ id: of, seconds }) => create(RotateApiKeyRequestSchema, { id: of, overlap: { seconds } })),
			checkRotate,
		);
		const revoked = fc.record({ id, reason: fc.string({ unit: "grapheme", maxLength: 5_000 }) });
		agree(
			RevokeApiKeyRequestSchema,
			revoked.map((init) => create(RevokeApiKeyRequestSchema, init)),
			checkRevoke,
		);
	});
});
