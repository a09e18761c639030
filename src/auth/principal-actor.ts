import { LIMITS } from "../event/limits.ts";
import { cutText } from "../event/text.ts";
import { ActorType } from "../gen/audit/v1/event_pb.ts";
import type { Principal } from "./principal.ts";

const TYPES = {
	api_key: ActorType.API_KEY,
	jwt: ActorType.USER,
	mtls: ActorType.SERVICE,
} as const satisfies Record<Principal["kind"], ActorType>;

/**
 * A principal as the actor of an event the service tells: its name is in a unit that can be erased. Names of old keys were not
 * looked at, and may be longer than an event takes.
 */
export function actorOf({ kind, id, name }: Principal) {
	return { type: TYPES[kind], id, displayName: cutText(name, LIMITS.nameBytes) };
}
