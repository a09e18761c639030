import type { KeyObject } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { admit } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import { microsOfDate } from "../event/time.ts";
import { EventSchema } from "../gen/audit/v1/event_pb.ts";
import { type EventRow, prepareRow } from "./row.ts";

/** An event the service itself has to tell, now, ready to be stored. Only these have actions that begin with `audit.`. */
export function serviceEvent(
	tenantId: TenantId,
	init: MessageInitShape<typeof EventSchema>,
	macKey: KeyObject,
): EventRow {
	const now = microsOfDate(new Date());
	const recordedBy = { door: "service", keyId: undefined } as const;
	const admission = { now, recordedBy, boundTenant: tenantId, idSecret: macKey, kind: 2 } as const;
	const admitted = admit(create(EventSchema, init), admission);
	if (!admitted.ok) throw new Error(`the service's own event was refused: ${admitted.violations[0]?.message}`);
	return prepareRow(admitted.event, macKey);
}
