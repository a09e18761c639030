import type { Principal } from "../auth/principal.ts";
import { tenantDisabled } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import type { DisabledTenants } from "../storage/disabled-tenants.ts";

/**
 * The log of a disabled tenant is nobody's but an operator's; its keys are administered as before. To be asked after `authorize`: to whoever may not see the
 * tenant it does not exist, disabled or not. What is written is refused by the write path, for every door.
 *
 * @returns the tenant
 * @throws AuditError permission_denied, unavailable
 */
export async function refuseDisabled(
	disabled: Pick<DisabledTenants, "has">,
	principal: Principal,
	tenantId: TenantId,
): Promise<TenantId> {
	if (!principal.roles.has("operator") && (await disabled.has(tenantId))) throw tenantDisabled();
	return tenantId;
}
