import { create, fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import type { MaskableUnit } from "../auth/principal.ts";
import { UNIT_PATHS, type UnitPath } from "../event/event.ts";
import { timestampOf } from "../event/time.ts";
import { MASKABLE } from "../event/unit.ts";
import {
	type Event,
	EventSchema,
	IntegritySchema,
	IntegrityState,
	RecordedBySchema,
	type Unit,
} from "../gen/audit/v1/event_pb.ts";
import { SALT_BYTES } from "../integrity/entry.ts";
import { microsOfColumn, type StoredRow } from "./stored-row.ts";

/**
 * The wire form of a stored event, rendered from the very text that was hashed: the one way from a row to an answer. Of a
 * masked unit nothing is taken but its commitment.
 *
 * @param masked the same the row was selected for
 */
export function renderEvent(row: StoredRow, masked: ReadonlySet<MaskableUnit>): Event {
	const unit = (path: UnitPath): JsonObject => (value(path) ?? {}) as JsonObject;
	const value = (path: UnitPath): JsonValue | undefined => {
		const text = isMasked(path, masked) ? null : row[`u_${path}`];
		return text === null ? undefined : (JSON.parse(text) as JsonValue);
	};
	const { recorded_by: recordedBy, ...facts } = unit("facts");
	const json: Record<string, JsonValue | undefined> = {
		tenant_id: row.tenant_id,
		id: row.id,
		action: row.action,
		...facts,
		...unit("actor"),
		...unit("resources"),
		...unit("reason"),
		context: value("context"),
		changes: value("changes"),
		metadata: value("metadata"),
		description: value("description"),
	};
	const present = Object.fromEntries(Object.entries(json).filter(([, v]) => v !== undefined)) as JsonObject;
	const event = fromJson(EventSchema, present);
	event.occurredAt = timestampOf(microsOfColumn(row.occurred_us));
	event.recordedAt = timestampOf(microsOfColumn(row.recorded_us));
	event.integrity = create(IntegritySchema, {
		state: IntegrityState.STORED,
		leafHash: row.leaf_hash,
		...hashesOf(row, masked),
		recordedBy: recordedBy === undefined ? undefined : fromJson(RecordedBySchema, recordedBy),
	});
	return event;
}

function isMasked(path: UnitPath, masked: ReadonlySet<MaskableUnit>): path is MaskableUnit {
	return path !== "facts" && masked.has(path);
}

/** What a verifier needs of each unit: of those shown the salt, of those masked the commitment. */
function hashesOf(row: StoredRow, masked: ReadonlySet<MaskableUnit>) {
	const salts: Uint8Array[] = [];
	const maskedUnits: { unit: Unit; commitment: Uint8Array }[] = [];
	let at = 0;
	for (const path of UNIT_PATHS) {
		const commitment = isMasked(path, masked) ? row[`c_${path}`] : null;
		if (commitment === undefined) throw new Error(`the row was selected as if ${path} were not masked`);
		if (commitment !== null) maskedUnits.push({ unit: MASKABLE[path as MaskableUnit], commitment });
		else if (isMasked(path, masked) || row[`u_${path}`] === null) continue;
		else salts.push(row.salts.subarray(at, at + SALT_BYTES));
		at += SALT_BYTES;
	}
	return { salts: Buffer.concat(salts), maskedUnits };
}
