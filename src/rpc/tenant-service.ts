import { create } from "@bufbuild/protobuf";
import { authorize, type RpcName } from "../auth/permissions.ts";
import { boundTenant, type Principal } from "../auth/principal.ts";
import { actorOf } from "../auth/principal-actor.ts";
import { invalidArgument, type Violation } from "../errors.ts";
import { isTenantId } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { faultOfTenantName } from "../event/tenant-name.ts";
import { faultOfText } from "../event/text.ts";
import { timestampOf } from "../event/time.ts";
import {
	type CreateTenantRequest,
	type CreateTenantResponse,
	CreateTenantResponseSchema,
	type DisableTenantRequest,
	type DisableTenantResponse,
	DisableTenantResponseSchema,
	type EnableTenantRequest,
	type EnableTenantResponse,
	EnableTenantResponseSchema,
	type ListTenantsRequest,
	type ListTenantsResponse,
	ListTenantsResponseSchema,
	type RenameTenantRequest,
	type RenameTenantResponse,
	RenameTenantResponseSchema,
	type Tenant,
	TenantSchema,
} from "../gen/audit/v1/tenant_service_pb.ts";
import type { TenantQuery } from "../query/tenants.ts";
import type { DisabledTenants } from "../storage/disabled-tenants.ts";
import type { TenantState, Tenants } from "../storage/tenants.ts";
import { refuseDisabled } from "./disabled.ts";

export interface TenantServiceOptions {
	readonly tenants: Pick<Tenants, "create" | "rename" | "setDisabled">;
	readonly disabled: Pick<DisabledTenants, "has">;
	readonly tenantList: Pick<TenantQuery, "list">;
}

/** audit.v1.TenantService: may this key do that, to which tenant; then convert, call, convert. */
export class TenantServiceCalls {
	readonly #tenants: TenantServiceOptions["tenants"];
	readonly #list: TenantServiceOptions["tenantList"];
	readonly #disabled: TenantServiceOptions["disabled"];

	constructor({ tenants, tenantList, disabled }: TenantServiceOptions) {
		this.#tenants = tenants;
		this.#list = tenantList;
		this.#disabled = disabled;
	}

	async createTenant({ id, name }: CreateTenantRequest, principal: Principal): Promise<CreateTenantResponse> {
		const tenantId = authorized(principal, "createTenant", id, [
			{ field: "name", message: name === "" ? undefined : faultOfTenantName(name) },
		]);
		const origin = { madeBy: "CreateTenant", actor: actorOf(principal) } as const;
		const { tenant, changed } = await this.#tenants.create(tenantId, name === "" ? undefined : name, origin);
		return create(CreateTenantResponseSchema, { tenant: rendered(tenant), created: changed });
	}

	async listTenants(request: ListTenantsRequest, principal: Principal): Promise<ListTenantsResponse> {
		authorize(principal, "listTenants", []);
		const { tenants, nextPageToken } = await this.#list.list(request, principal.tenants);
		return create(ListTenantsResponseSchema, { tenants: tenants.map(rendered), nextPageToken });
	}

	async renameTenant({ id, name }: RenameTenantRequest, principal: Principal): Promise<RenameTenantResponse> {
		const tenantId = authorized(principal, "renameTenant", id === "" ? (boundTenant(principal) ?? "") : id, [
			{ field: "name", message: name === "" ? "is required" : faultOfTenantName(name) },
		]);
		await refuseDisabled(this.#disabled, principal, tenantId);
		const { tenant, changed } = await this.#tenants.rename(tenantId, name, actorOf(principal));
		return create(RenameTenantResponseSchema, { tenant: rendered(tenant), changed });
	}

	async disableTenant({ id, reason }: DisableTenantRequest, principal: Principal): Promise<DisableTenantResponse> {
		const tenantId = authorized(principal, "disableTenant", id, [
			{ field: "reason", message: reason.trim() === "" ? "is required" : faultOfText(reason, LIMITS.textBytes) },
		]);
		const { tenant, changed } = await this.#tenants.setDisabled(tenantId, true, { actor: actorOf(principal), reason });
		return create(DisableTenantResponseSchema, { tenant: rendered(tenant), changed });
	}

	async enableTenant({ id, reason }: EnableTenantRequest, principal: Principal): Promise<EnableTenantResponse> {
		const tenantId = authorized(principal, "enableTenant", id, [
			{ field: "reason", message: faultOfText(reason, LIMITS.textBytes) },
		]);
		const { tenant, changed } = await this.#tenants.setDisabled(tenantId, false, { actor: actorOf(principal), reason });
		return create(EnableTenantResponseSchema, { tenant: rendered(tenant), changed });
	}
}

/** Everything wrong with the request, then whether the tenant is one of the caller's. */
function authorized(
	principal: Principal,
	rpc: RpcName,
	id: string,
	others: readonly { readonly field: string; readonly message: string | undefined }[],
): TenantId {
	const violations: Violation[] = others.flatMap(({ field, message }) =>
		message === undefined ? [] : [{ field, message }],
	);
	if (!isTenantId(id)) {
		const message = id === "" ? "is required" : "must be 1 to 128 of A-Z a-z 0-9 . _ : -";
		throw invalidArgument([{ field: "id", message }, ...violations], "INVALID_REQUEST");
	}
	if (violations.length > 0) throw invalidArgument(violations, "INVALID_REQUEST");
	authorize(principal, rpc, [id]);
	return id;
}

function rendered({ id, name, createdAt, disabledAt }: TenantState): Tenant {
	return create(TenantSchema, {
		id,
		name,
		createdAt: timestampOf(createdAt),
		...(disabledAt !== undefined && { disabledAt: timestampOf(disabledAt) }),
	});
}
