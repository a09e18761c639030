import { canonicalUnits } from "../event/canonical.ts";
import { type Door, UNIT_PATHS, type UnitPath, type Units } from "../event/event.ts";
import { isTimestamp, microsOf } from "../event/time.ts";
import { MASKABLE } from "../event/unit.ts";
import type { Event, Integrity, Unit } from "../gen/audit/v1/event_pb.ts";
import { commit, type EntryUnit, encodeEntry, leafHash, SALT_BYTES } from "../integrity/entry.ts";

/** What came of holding an answer against its leaf hash. */
export type EventCheck =
	/** It is the event of this leaf. Of the units in `masked` only the commitments were seen: what they hold was not. */
	{ readonly ok: true; readonly masked: Unit[] } | { readonly ok: false; readonly fault: string };

/**
 * Whether an event, as the service answered it, is the one its leaf hash was made of: id, times, action and every unit that
 * is shown, to the last byte; of masked units the commitment. Needs nothing but the answer, and asks nobody.
 *
 * That the leaf is in the log is not shown by this: hold the hash against a receipt's. Not hashed are `tenant_id`, which
 * the batch's manifest names, `integrity.state` and `integrity.log_index`.
 *
 * @param event all of the answer; one read from JSON will do
 * @param leaf the hash it must have: a receipt's, 32 bytes. Default: the one the answer names
 */
export function verifyEvent(event: Event, leaf: Uint8Array | undefined = event.integrity?.leafHash): EventCheck {
	const { integrity } = event;
	if (!integrity?.recordedBy || !leaf) return refused("it has not all that an answer of the service has");
	const header = headerOf(event, integrity.recordedBy.door);
	if (!header) return refused("its id, times or action are none that an event can have");
	const units = entryUnits(event, integrity);
	if (typeof units === "string") return refused(units);
	if (Buffer.compare(leafHash(encodeEntry({ ...header, units })), leaf) === 0) {
		return { ok: true, masked: integrity.maskedUnits.map(({ unit }) => unit) };
	}
	return refused(
		"it does not hash to its leaf: it was altered, or has what this version of the client has no name for",
	);
}

function refused(fault: string): EventCheck {
	return { ok: false, fault };
}

function headerOf({ id, action, occurredAt, recordedAt, idempotencyKey }: Event, door: string) {
	// What the entry's bytes cannot hold could be altered unseen.
	if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id) || !/^[a-z0-9._-]{1,127}$/.test(action)) return undefined;
	if (idempotencyKey !== "" || !occurredAt || !recordedAt) return undefined;
	for (const time of [occurredAt, recordedAt]) if (!isTimestamp(time) || time.nanos % 1000 !== 0) return undefined;
	return {
		kind: door === "service" ? 2 : 1,
		eventId: Buffer.from(id.replaceAll("-", ""), "hex"),
		recordedAt: microsOf(recordedAt),
		occurredAt: microsOf(occurredAt),
		action,
	};
}

/** The units of the event's entry, or why there can be none. */
function entryUnits(event: Event, { maskedUnits, recordedBy, salts }: Integrity): EntryUnit[] | string {
	const shown = unitsShown(event, recordedBy as NonNullable<typeof recordedBy>);
	const masked = new Map(maskedUnits.map(({ unit, commitment }) => [unit, commitment]));
	const units: EntryUnit[] = [];
	let at = 0;
	for (const path of UNIT_PATHS) {
		const commitment = path === "facts" ? undefined : masked.get(MASKABLE[path]);
		const text = shown[path];
		if (commitment && text !== undefined) return `${path} is said to be masked, and is shown`;
		if (commitment) units.push(unitOf(path, commitment));
		else if (text !== undefined) {
			units.push(unitOf(path, commit(path, salts.subarray(at, at + SALT_BYTES), text)));
			at += SALT_BYTES;
		}
	}
	if (at !== salts.length) return "it has not one salt for each unit it shows";
	if (units.length !== maskedUnits.length + at / SALT_BYTES) return "it does not say clearly which units are masked";
	if (units.some(({ commitment }) => commitment.length !== 32)) return "a commitment has not 32 bytes";
	return units;
}

function unitsShown(event: Event, { door, keyId }: NonNullable<Integrity["recordedBy"]>): Units {
	// Whatever canonical text cannot hold was never stored, and leaves the unit with a hash that is none.
	return canonicalUnits(event, { door: door as Door, keyId: keyId === "" ? undefined : keyId }, () => {});
}

function unitOf(path: UnitPath, commitment: Uint8Array): EntryUnit {
	return { path, erasable: path !== "facts", commitment };
}
