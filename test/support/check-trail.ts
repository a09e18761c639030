import { expect } from "vitest";
import { type Verification, verifyTrail } from "../../src/storage/verify.ts";

/** Verifies everything stored, with the code of `auditlog verify`, and fails the test on the first thing amiss. */
export async function checkTrail(database: { databaseUrl: string; secret: string }): Promise<Verification> {
	const verification = await verifyTrail(database);
	expect(verification.problems).toEqual([]);
	expect(verification.ok).toBe(true);
	return verification;
}
