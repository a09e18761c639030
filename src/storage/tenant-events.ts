import type { MessageInitShape } from "@bufbuild/protobuf";
import type { TenantId } from "../event/event.ts";
import { type ActorSchema, ActorType, Category } from "../gen/audit/v1/event_pb.ts";
import { HASH_VERSION } from "./row.ts";
import type { Told } from "./service-log.ts";

type Actor = MessageInitShape<typeof ActorSchema>;
type Named = { readonly id: TenantId; readonly name: string };

/** How a tenant came to be: what the first event of its log tells of that. */
export type TenantOrigin =
	| { readonly madeBy: "CreateTenant"; readonly actor: Actor }
	| { readonly madeBy: "first write"; readonly actor?: Actor | undefined }
	| { readonly madeBy: "first message"; readonly subject: string }
	| { readonly madeBy: "command line" };

/** `audit.log.created`: made by the service, on behalf of whoever wanted the tenant. */
export function firstEvent({ id, name }: Named, origin: TenantOrigin): Told {
	const actor = "actor" in origin ? origin.actor : undefined;
	return {
		tenantId: id,
		event: {
			action: "audit.log.created",
			category: Category.SYSTEM,
			actor: { type: ActorType.SYSTEM, id: "auditlog" },
			...(actor && { onBehalfOf: [actor] }),
			primaryResource: { type: "tenant", id, displayName: name },
			metadata: {
				hash_version: HASH_VERSION,
				made_by: origin.madeBy,
				...("subject" in origin && { subject: origin.subject }),
			},
		},
	};
}

/** `audit.tenant.renamed`, with both names. */
export function renamedEvent({ id, name }: Named, oldName: string, actor: Actor): Told {
	return {
		tenantId: id,
		event: {
			action: "audit.tenant.renamed",
			category: Category.ADMIN,
			actor,
			primaryResource: { type: "tenant", id, displayName: name },
			changes: { oldValue: { name: oldName }, newValue: { name }, changedFields: ["name"] },
		},
	};
}

/** `audit.tenant.disabled` or `audit.tenant.enabled`, with the reason that was given. */
export function switchedEvent(
	{ id, name }: Named,
	{ isDisabled, reason, actor }: { isDisabled: boolean; reason: string; actor: Actor },
): Told {
	return {
		tenantId: id,
		event: {
			action: isDisabled ? "audit.tenant.disabled" : "audit.tenant.enabled",
			category: Category.ADMIN,
			actor,
			reason,
			primaryResource: { type: "tenant", id, displayName: name },
		},
	};
}
