import type { ConnectRouter } from "@connectrpc/connect";
import { TenantService } from "../gen/audit/v1/tenant_service_pb.ts";
import { callKey, principalOf } from "./call.ts";
import { strictJson } from "./interceptors.ts";
import type { TenantServiceCalls } from "./tenant-service.ts";

/** The RPCs about tenants, with the same JSON codec as all others: it names everything wrong with a request. */
export function addTenantService(router: ConnectRouter, calls: TenantServiceCalls): void {
	const { createTenant, listTenants, renameTenant, disableTenant, enableTenant } = TenantService.method;
	router.rpc(
		createTenant,
		(request, { values }) => calls.createTenant(request, principalOf(values.get(callKey))),
		strictJson(createTenant),
	);
	router.rpc(
		listTenants,
		(request, { values }) => calls.listTenants(request, principalOf(values.get(callKey))),
		strictJson(listTenants),
	);
	router.rpc(
		renameTenant,
		(request, { values }) => calls.renameTenant(request, principalOf(values.get(callKey))),
		strictJson(renameTenant),
	);
	router.rpc(
		disableTenant,
		(request, { values }) => calls.disableTenant(request, principalOf(values.get(callKey))),
		strictJson(disableTenant),
	);
	router.rpc(
		enableTenant,
		(request, { values }) => calls.enableTenant(request, principalOf(values.get(callKey))),
		strictJson(enableTenant),
	);
}
