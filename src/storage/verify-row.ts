import type { KeyObject } from "node:crypto";
import { factsWithoutRecorder } from "../event/canonical.ts";
import { isTimed } from "../event/time.ts";
import { encodeEntry, leafHash, SALT_BYTES } from "../integrity/entry.ts";
import { contentMac, entryOf, HASH_VERSION, project } from "./row.ts";
import { microsOfColumn, unitsOf, type VerifiedRow } from "./stored-row.ts";

/** What of a row is not as it was written, in words; empty if nothing. */
export function rowFaults(row: VerifiedRow, leaf: Uint8Array, contentMacKey: KeyObject): string[] {
	if (row.occurred_us === null || row.recorded_us === null) return ["a time of the event is infinite"];
	if (row.hv !== HASH_VERSION) return [`the event has the unknown hash version ${row.hv}`];
	const units = unitsOf(row);
	const event = {
		tenantId: row.tenant_id,
		id: row.id,
		occurredAt: microsOfColumn(row.occurred_us),
		recordedAt: microsOfColumn(row.recorded_us),
		kind: row.kind,
		action: row.action,
		units,
	};
	// What the entry's bytes cannot hold could be put there unseen: the hash is of the entry, not of the row.
	if (row.kind !== 1 && row.kind !== 2) return ["the event was altered: its kind is none that was ever written"];
	if (!/^[a-z0-9._-]{1,127}$/.test(row.action))
		return ["the event was altered: its action is none that was ever admitted"];
	if (row.salts.length !== Object.keys(units).length * SALT_BYTES)
		return ["the event was altered: it has not one salt per unit"];
	const faults: string[] = [];
	if (!equal(leafHash(encodeEntry(entryOf(event, row.salts))), leaf))
		faults.push("the event was altered: it does not hash to its leaf");
	if (!equal(row.leaf_hash, leaf)) faults.push("the leaf hash beside the event is not the manifest's");
	let stated: string;
	let projected: ReturnType<typeof project>;
	try {
		stated = factsWithoutRecorder(units.facts);
		projected = project(units);
	} catch {
		return [...faults, "a unit of the event is not JSON"];
	}
	for (const [column, value] of Object.entries(projected)) {
		if (row[column as keyof typeof projected] !== value)
			faults.push(`the filter column ${column} is not what was hashed`);
	}
	if (row.timed !== isTimed(event.id, event.occurredAt)) faults.push("the filter column timed is not what was hashed");
	if (!row.content_mac || !equal(row.content_mac, contentMac({ ...event, statedFacts: stated }, contentMacKey))) {
		faults.push("the content MAC is not that of the event");
	}
	return faults;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
	return Buffer.compare(a, b) === 0;
}
