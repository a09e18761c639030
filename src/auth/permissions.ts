import { AuditError, tenantNotFound } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import type { AccessService } from "../gen/audit/v1/access_service_pb.ts";
import type { AuditService } from "../gen/audit/v1/audit_service_pb.ts";
import type { DeadLetterService } from "../gen/audit/v1/dead_letter_service_pb.ts";
import type { TenantService } from "../gen/audit/v1/tenant_service_pb.ts";
import { maySee, type Principal, type Role } from "./principal.ts";

/** The RPCs there are, by their names in TypeScript. */
export type RpcName =
	| keyof typeof AuditService.method
	| keyof typeof DeadLetterService.method
	| keyof typeof AccessService.method
	| keyof typeof TenantService.method;

const WRITE = ["writer", "operator"] as const;
const READ = ["reader", "exporter", "auditor", "tenant_admin", "operator"] as const;
const EXPORT = ["exporter", "tenant_admin", "operator"] as const;
const ADMINISTER = ["tenant_admin", "operator"] as const;
const OPERATE = ["operator"] as const;

/** Who may call what. An RPC that is missing here does not compile. */
export const PERMISSIONS = {
	writeEvent: WRITE,
	batchWrite: WRITE,
	query: READ,
	getEvent: READ,
	export: EXPORT,
	listDeadLetters: OPERATE,
	getDeadLetter: OPERATE,
	redriveDeadLetters: OPERATE,
	discardDeadLetters: OPERATE,
	createApiKey: ADMINISTER,
	listApiKeys: ADMINISTER,
	rotateApiKey: ADMINISTER,
	revokeApiKey: ADMINISTER,
	createTenant: OPERATE,
	listTenants: ADMINISTER,
	renameTenant: ADMINISTER,
	disableTenant: OPERATE,
	enableTenant: OPERATE,
} as const satisfies Record<RpcName, readonly Role[]>;

/** These show messages as they came, or what is wrong with them: they are for keys to which nothing is masked. */
const OF_WHOLE_MESSAGES: ReadonlySet<RpcName> = new Set([
	"listDeadLetters",
	"getDeadLetter",
	"redriveDeadLetters",
	"discardDeadLetters",
]);

/**
 * Lets the call pass or throws. The role comes first, and the same for every tenant: it is looked at before the body is
 * read, and tells nothing of any tenant. Then: what the key cannot see does not exist for it.
 *
 * @param tenantIds the tenants the call names; none if it leaves that to the key, or if they are not known yet
 * @throws AuditError `permission_denied`, `not_found`
 */
export function authorize(
	principal: Pick<Principal, "roles" | "tenants" | "maskedUnits">,
	rpc: RpcName,
	tenantIds: Iterable<TenantId>,
): void {
	const allowed: readonly Role[] = PERMISSIONS[rpc];
	if (!allowed.some((role) => principal.roles.has(role))) {
		const roles = [...principal.roles].join(" and ");
		throw new AuditError("permission_denied", `this key may not call ${rpc}: it is a ${roles} key`, {
			reason: "ROLE_NOT_PERMITTED",
		});
	}
	if (OF_WHOLE_MESSAGES.has(rpc) && principal.maskedUnits.size > 0) {
		throw new AuditError("permission_denied", `this key may not call ${rpc}: units are masked for it`, {
			reason: "UNIT_MASKED",
		});
	}
	const named = [...tenantIds];
	if (named.length > 0 && !named.some((tenantId) => maySee(principal, tenantId))) throw tenantNotFound();
}
