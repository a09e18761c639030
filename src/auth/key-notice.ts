import type { MessageInitShape } from "@bufbuild/protobuf";
import { LIMITS } from "../event/limits.ts";
import { cutText } from "../event/text.ts";
import { rfc3339 } from "../event/time.ts";
import { type ActorSchema, Category } from "../gen/audit/v1/event_pb.ts";
import type { Told } from "../storage/service-log.ts";
import type { KeyInfo } from "./key-info.ts";

/** What became of a key, and who did it. */
export interface KeyNotice {
	readonly what: "created" | "rotated" | "revoked";
	readonly key: KeyInfo;
	readonly actor: MessageInitShape<typeof ActorSchema>;
	/** Why it was revoked. */
	readonly reason?: string;
	/** The keys it takes the place of. */
	readonly replaced?: readonly KeyInfo[];
}

/**
 * The events that tell of it, `audit.key.created`, `audit.key.rotated` and `audit.key.revoked`: one in the log of each tenant
 * the key names, of which none learns the others. A key that names none, because it is good for all, is told to nobody.
 */
export function keyNotices({ what, key, actor, reason = "", replaced = [] }: KeyNotice): Told[] {
	if (key.tenants === "all") return [];
	// Names of old keys were not looked at, and may be longer than an event takes.
	const resource = ({ id, name }: KeyInfo) => ({
		type: "api_key",
		id,
		displayName: cutText(name, LIMITS.nameBytes),
	});
	const event = {
		action: `audit.key.${what}`,
		category: Category.ADMIN,
		actor,
		primaryResource: resource(key),
		relatedResources: replaced
			.slice(0, LIMITS.relatedResources)
			.map((each) => ({ ...resource(each), role: "replaced" })),
		reason,
		metadata: {
			role: key.role,
			masked_units: [...key.maskedUnits],
			...(key.expiresAt !== undefined && { expires_at: rfc3339(key.expiresAt) }),
		},
	};
	return [...key.tenants].map((tenantId) => ({ tenantId, event }));
}
