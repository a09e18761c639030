import { create } from "@bufbuild/protobuf";
import { type KeyChanges, type KeyClerk, keyNotFound } from "../auth/key-changes.ts";
import { authorize } from "../auth/permissions.ts";
import { tenantNotFound } from "../errors.ts";
import type { TenantId } from "../event/event.ts";
import {
	type CreateApiKeyRequest,
	type CreateApiKeyResponse,
	CreateApiKeyResponseSchema,
	type ListApiKeysRequest,
	type ListApiKeysResponse,
	ListApiKeysResponseSchema,
	type RevokeApiKeyRequest,
	type RevokeApiKeyResponse,
	RevokeApiKeyResponseSchema,
	type RotateApiKeyRequest,
	type RotateApiKeyResponse,
	RotateApiKeyResponseSchema,
} from "../gen/audit/v1/access_service_pb.ts";
import { type KeyQuery, renderKey } from "../query/api-keys.ts";
import { checkCreate, checkList, checkRevoke, checkRotate } from "./access-request.ts";

export interface AccessServiceOptions {
	readonly keyChanges: Pick<KeyChanges, "create" | "rotate" | "revoke">;
	readonly keyQuery: Pick<KeyQuery, "has" | "list">;
	readonly tenants: { exists(tenantId: TenantId): Promise<boolean> };
}

/**
 * audit.v1.AccessService: may this caller do that, to which keys; then convert, call, convert. What keys a caller may deal
 * with is in auth/grant.ts. The same for the command line that has the database at hand.
 */
export class AccessServiceCalls {
	readonly #options: AccessServiceOptions;

	constructor(options: AccessServiceOptions) {
		this.#options = options;
	}

	async createApiKey(request: CreateApiKeyRequest, clerk: KeyClerk): Promise<CreateApiKeyResponse> {
		authorize(clerk, "createApiKey", []);
		const made = await this.#options.keyChanges.create(checkCreate(request, clerk), clerk);
		if (!made) throw new Error("a key with a new id was there before");
		return create(CreateApiKeyResponseSchema, { key: renderKey(made.key), secret: made.secret });
	}

	async listApiKeys(request: ListApiKeysRequest, clerk: KeyClerk): Promise<ListApiKeysResponse> {
		authorize(clerk, "listApiKeys", []);
		const asked = checkList(request);
		if (asked.tenantId !== undefined) {
			authorize(clerk, "listApiKeys", [asked.tenantId]);
			if (!(await this.#options.tenants.exists(asked.tenantId))) throw tenantNotFound();
		}
		const { keys, nextPageToken } = await this.#options.keyQuery.list(asked, clerk.tenants);
		return create(ListApiKeysResponseSchema, { keys: keys.map(renderKey), nextPageToken });
	}

	async rotateApiKey(request: RotateApiKeyRequest, clerk: KeyClerk): Promise<RotateApiKeyResponse> {
		authorize(clerk, "rotateApiKey", []);
		const asked = checkRotate(request);
		await this.#refuseUnseen(request.id, clerk);
		const { key, secret, replaced } = await this.#options.keyChanges.rotate(request.id, asked, clerk);
		return create(RotateApiKeyResponseSchema, { key: renderKey(key), secret, replaced: replaced.map(renderKey) });
	}

	async revokeApiKey(request: RevokeApiKeyRequest, clerk: KeyClerk): Promise<RevokeApiKeyResponse> {
		authorize(clerk, "revokeApiKey", []);
		checkRevoke(request);
		await this.#refuseUnseen(request.id, clerk);
		const { key, changed } = await this.#options.keyChanges.revoke(request.id, request.reason, clerk);
		return create(RevokeApiKeyResponseSchema, { key: renderKey(key), changed });
	}

	/** Before anything is locked: the lock writes to the row, and the time of the answer would tell that there is one. */
	async #refuseUnseen(id: string, clerk: KeyClerk): Promise<void> {
		if (!(await this.#options.keyQuery.has(id, clerk.tenants))) throw keyNotFound();
	}
}
