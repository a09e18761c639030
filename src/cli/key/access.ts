import { COMMAND_LINE, KeyChanges } from "../../auth/key-changes.ts";
import { createAccessClient } from "../../client/index.ts";
import type {
	CreateApiKeyRequest,
	CreateApiKeyResponse,
	ListApiKeysRequest,
	ListApiKeysResponse,
	RevokeApiKeyRequest,
	RevokeApiKeyResponse,
	RotateApiKeyRequest,
	RotateApiKeyResponse,
} from "../../gen/audit/v1/access_service_pb.ts";
import { createLogger } from "../../logger.ts";
import { KeyQuery } from "../../query/api-keys.ts";
import { AccessServiceCalls } from "../../rpc/access-service.ts";
import { asService, goesByService } from "../access-way.ts";
import { type CommandLine, UsageError } from "../command-line.ts";
import { asOwner, type Owner } from "../owner.ts";
import { type AddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";

/** What can be done with keys, on either way. @throws AuditError */
export interface KeyAccess {
	create(request: CreateApiKeyRequest): Promise<CreateApiKeyResponse>;
	list(request: ListApiKeysRequest): Promise<ListApiKeysResponse>;
	rotate(request: RotateApiKeyRequest): Promise<RotateApiKeyResponse>;
	revoke(request: RevokeApiKeyRequest): Promise<RevokeApiKeyResponse>;
}

export async function withAccess<T>(
	commandLine: CommandLine,
	options: AddressOptions,
	use: (access: KeyAccess) => Promise<T>,
): Promise<T> {
	if (!goesByService(commandLine, options)) return asOwner(commandLine.env, (owner) => withDatabase(owner, use));
	const client = createAccessClient(findService(commandLine, options));
	return use({
		create: (request) => asAuditErrors(() => client.createApiKey(request)),
		list: (request) => asAuditErrors(() => client.listApiKeys(request)),
		rotate: (request) => asAuditErrors(() => client.rotateApiKey(request)),
		revoke: (request) => asAuditErrors(() => client.revokeApiKey(request)),
	});
}

/** The service's own code, in its own roles: what it refuses and tells, this does too. */
function withDatabase<T>(owner: Owner, use: (access: KeyAccess) => Promise<T>): Promise<T> {
	const { keys } = owner;
	return asService(owner, ({ db, log }) => {
		const calls = new AccessServiceCalls({
			keyChanges: new KeyChanges({ log, keys, tenants: ANY_TENANT, logger: createLogger("silent") }),
			keyQuery: new KeyQuery({ db, pageTokenKey: keys.pageTokens }),
			tenants: ANY_TENANT,
		});
		return use({
			create: (request) => calls.createApiKey(request, COMMAND_LINE),
			list: (request) => calls.listApiKeys(request, COMMAND_LINE),
			rotate: (request) => calls.rotateApiKey(request, COMMAND_LINE),
			revoke: (request) => calls.revokeApiKey(request, COMMAND_LINE),
		});
	});
}

/** Where the first write makes the tenant, its writer's key is there before. */
const ANY_TENANT = { exists: () => Promise.resolve(true), isDisabled: () => Promise.resolve(false) };

/** `al_<id>_<secret>`, or its beginning, or the id alone: whoever finds a key must not have to take it apart. */
export function keyIdOf(text: string): string {
	const [, id] = /^(?:al_)?([0-9a-f]{12})(?:_[0-9a-f]*)?$/.exec(text) ?? [];
	if (!id) throw new UsageError("a key is named by its id, 12 hexadecimal digits as `auditlog key list` shows them");
	return id;
}
