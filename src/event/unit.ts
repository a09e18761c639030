import { Unit } from "../gen/audit/v1/event_pb.ts";
import type { UnitPath } from "./event.ts";

/** The contract's names of the units that can be masked, in the order they are hashed in. */
export const MASKABLE = {
	actor: Unit.ACTOR,
	changes: Unit.CHANGES,
	context: Unit.CONTEXT,
	description: Unit.DESCRIPTION,
	metadata: Unit.METADATA,
	reason: Unit.REASON,
	resources: Unit.RESOURCES,
} as const satisfies Record<Exclude<UnitPath, "facts">, Unit>;
