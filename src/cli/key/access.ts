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
import { openDatabase } from "../../storage/db.ts";
import { Partitions } from "../../storage/partitions.ts";
import { ServiceLog } from "../../storage/service-log.ts";
import { type CommandLine, UsageError } from "../command-line.ts";
import { asOwner, type Owner } from "../owner.ts";
import { type AddressOptions, findService } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";

/** What the help texts say of it. */
export const WAYS = `With an API key (--key or AUDIT_KEY, or --url) this goes through the service, as whoever the key is: a tenant admin deals
with the keys of its tenants. Without one it goes straight to the database, as the first key has to: that needs DATABASE_URL
and AUDIT_SECRET, or the \`make run\` that runs here.`;

/** What can be done with keys, on either way. @throws AuditError */
export interface KeyAccess {
	create(request: CreateApiKeyRequest): Promise<CreateApiKeyResponse>;
	list(request: ListApiKeysRequest): Promise<ListApiKeysResponse>;
	rotate(request: RotateApiKeyRequest): Promise<RotateApiKeyResponse>;
	revoke(request: RevokeApiKeyRequest): Promise<RevokeApiKeyResponse>;
}

/** Whether an API key says who is asking; else it is whoever has the database. */
export function goesByService({ env }: CommandLine, { url, key }: AddressOptions): boolean {
	return Boolean(url || key || env.AUDIT_KEY);
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
async function withDatabase<T>({ databaseUrl, keys }: Owner, use: (access: KeyAccess) => Promise<T>): Promise<T> {
	const logger = createLogger("silent");
	const db = openDatabase({ databaseUrl, keys, logger });
	try {
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		// The chain's head reaches NATS with the next batch of the service.
		const log = new ServiceLog({ db, partitions: new Partitions(db), ...hashing, onAppended: () => {} });
		const calls = new AccessServiceCalls({
			keyChanges: new KeyChanges({ log, keys, tenants: ANY_TENANT, logger }),
			keyQuery: new KeyQuery({ db, pageTokenKey: keys.pageTokens }),
			tenants: ANY_TENANT,
		});
		return await use({
			create: (request) => calls.createApiKey(request, COMMAND_LINE),
			list: (request) => calls.listApiKeys(request, COMMAND_LINE),
			rotate: (request) => calls.rotateApiKey(request, COMMAND_LINE),
			revoke: (request) => calls.revokeApiKey(request, COMMAND_LINE),
		});
	} finally {
		await db.close();
	}
}

/** Where the first write makes the tenant, its writer's key is there before. */
const ANY_TENANT = { exists: () => Promise.resolve(true) };

/** `al_<id>_<secret>`, or its beginning, or the id alone: whoever finds a key must not have to take it apart. */
export function keyIdOf(text: string): string {
	const [, id] = /^(?:al_)?([0-9a-f]{12})(?:_[0-9a-f]*)?$/.exec(text) ?? [];
	if (!id) throw new UsageError("a key is named by its id, 12 hexadecimal digits as `auditlog key list` shows them");
	return id;
}
